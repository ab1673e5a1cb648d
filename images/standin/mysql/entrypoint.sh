#!/bin/sh
# Entry point of the stand-in for mysql:5.6 (MariaDB). Takes the variables of the image it stands in for:
#   MYSQL_ROOT_PASSWORD         password of root from everywhere; needed unless the next one is set
#   MYSQL_ALLOW_EMPTY_PASSWORD  not empty: root needs no password
#   MYSQL_DATABASE              a database to create
#   MYSQL_USER, MYSQL_PASSWORD  a user to create, with all rights on MYSQL_DATABASE
# Arguments that start with '-' are handed to the server; any other command is run instead of it.
set -eu

case "${1:-}" in
'' | -*) ;;
mysqld | mariadbd) shift ;;
*) exec "$@" ;;
esac

if [ -z "${MYSQL_ROOT_PASSWORD:-}" ] && [ -z "${MYSQL_ALLOW_EMPTY_PASSWORD:-}" ]; then
  echo "error: set MYSQL_ROOT_PASSWORD (or MYSQL_ALLOW_EMPTY_PASSWORD=yes) in the container's env" >&2
  exit 1
fi
if [ -n "${MYSQL_USER:-}" ] && [ -z "${MYSQL_PASSWORD:-}" ]; then
  echo "error: MYSQL_USER is set and MYSQL_PASSWORD is not" >&2
  exit 1
fi

# Text inside '...' and inside `...` of a statement on one line.
quoted() { printf '%s' "$1" | tr '\n' ' ' | sed -e 's/\\/\\\\/g' -e "s/'/\\\\'/g"; }
# shellcheck disable=SC2016
named() { printf '%s' "$1" | tr '\n' ' ' | sed -e 's/`/``/g'; }

data=/var/lib/mysql
init=/run/mysqld/init.sql
mkdir -p /run/mysqld "$data" /tmp
chmod 1777 /tmp
if [ ! -d "$data/mysql" ]; then
  echo "keelson stand-in: the data directory is empty, copying the initial system tables" >&2
  cp -a /usr/share/keelson/mysql-data/. "$data/"
fi
chown mysql:mysql /run/mysqld "$data"

umask 077
{
  password=$(quoted "${MYSQL_ROOT_PASSWORD:-}")
  for host in localhost %; do
    echo "CREATE USER IF NOT EXISTS 'root'@'$host';"
    echo "ALTER USER 'root'@'$host' IDENTIFIED BY '$password';"
    echo "GRANT ALL PRIVILEGES ON *.* TO 'root'@'$host' WITH GRANT OPTION;"
  done
  if [ -n "${MYSQL_DATABASE:-}" ]; then
    database=$(named "$MYSQL_DATABASE")
    echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
  fi
  if [ -n "${MYSQL_USER:-}" ]; then
    user=$(quoted "$MYSQL_USER")
    echo "CREATE USER IF NOT EXISTS '$user'@'%';"
    echo "ALTER USER '$user'@'%' IDENTIFIED BY '$(quoted "$MYSQL_PASSWORD")';"
    if [ -n "${MYSQL_DATABASE:-}" ]; then
      # In GRANT the name is a pattern: _ and % of the name itself are escaped.
      echo "GRANT ALL PRIVILEGES ON \`$(printf '%s' "$database" | sed 's/[_%]/\\&/g')\`.* TO '$user'@'%';"
    fi
  fi
} >"$init"
chown mysql:mysql "$init"
unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD password
exec /usr/sbin/mariadbd --init-file="$init" "$@"
