# shellcheck shell=bash
# Shared by the scripts of hack/: messages, steps with progress and elapsed time, and where things are. Source it.
#
# A step's output goes to a log file; what the user sees is its title, the elapsed time while it runs and, if it
# fails, the end of the log and what to do next.

KEELSON_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export KEELSON_TOP
LIB_LOG_DIR=${KEELSON_LOG_DIR:-${KEELSON_TOP}/build/logs}
export LIB_START_S=$SECONDS
# How often a running step says that it still runs, in seconds: on a terminal the line is rewritten, else appended.
LIB_TICK_TTY_S=1
LIB_TICK_LOG_S=30

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

elapsed() {
  local s=$((SECONDS - ${1:-LIB_START_S}))
  if ((s < 60)); then printf '%ds' "$s"; else printf '%dm%02ds' $((s / 60)) $((s % 60)); fi
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$(basename "$0") needs root: it installs packages and makes namespaces and cgroups" \
    "run: sudo $0"
}

last_line() { tail -n 1 "$1" | tr -d '\r' | cut -c1-70; }

# step TITLE HINT COMMAND...: runs COMMAND with its output in a log. On failure prints the log's end and HINT, and exits.
step() {
  local title=$1 hint=$2 log pid rc=0 begin=$SECONDS tick=$LIB_TICK_LOG_S said=$SECONDS
  shift 2
  mkdir -p "$LIB_LOG_DIR"
  log=$LIB_LOG_DIR/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9' '-' | cut -c1-60).log
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # Interrupting a step stops its own process and nothing else.
  # shellcheck disable=SC2064
  trap "kill $pid 2>/dev/null || true; exit 130" INT TERM
  if [ -t 1 ]; then tick=$LIB_TICK_TTY_S; else printf '  .. %s\n' "$title"; fi
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    # By the clock: on a busy machine a round takes much longer than its sleep.
    ((SECONDS - said >= tick)) || continue
    said=$SECONDS
    if [ -t 1 ]; then
      printf '\r\033[K  .. %s (%s) %s' "$title" "$(elapsed "$begin")" "$(last_line "$log")"
    else
      printf '  .. %s (%s) %s\n' "$title" "$(elapsed "$begin")" "$(last_line "$log")"
    fi
  done
  wait "$pid" || rc=$?
  trap - INT TERM
  if [ -t 1 ]; then printf '\r\033[K'; fi
  if [ "$rc" != 0 ]; then
    printf '  failed: %s (%s); the end of %s:\n' "$title" "$(elapsed "$begin")" "$log" >&2
    tail -n 25 "$log" | sed 's/^/    /' >&2
    die "$title failed with exit code $rc" "$hint"
  fi
  printf '  ok %s (%s)\n' "$title" "$(elapsed "$begin")"
}

# wait_for TITLE SECONDS COMMAND...: polls until COMMAND succeeds; returns 1 when the time is over.
wait_for() {
  local title=$1 limit_s=$2 begin=$SECONDS last=0
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS - begin >= limit_s)); then
      [ ! -t 1 ] || printf '\r\033[K'
      return 1
    fi
    if [ -t 1 ]; then
      printf '\r\033[K  .. %s (%s)' "$title" "$(elapsed "$begin")"
    elif ((SECONDS - begin >= last + 10)); then
      last=$((SECONDS - begin))
      printf '  .. %s (%s)\n' "$title" "$(elapsed "$begin")"
    fi
    sleep 0.5
  done
  [ ! -t 1 ] || printf '\r\033[K'
  printf '  ok %s (%s)\n' "$title" "$(elapsed "$begin")"
}

# What the build is the same for, so that ccache serves another clone and the precompiled header too.
build_env() {
  # By the list of headers, with no second run of the preprocessor: a fifth of a build with an empty cache.
  export CCACHE_BASEDIR=$KEELSON_TOP CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
}

# build PRESET TARGET...: configures if needed and builds; a fast no-op when nothing changed.
build() {
  local preset=$1 tree=$KEELSON_TOP/build/$1
  shift
  build_env
  [ -f "$tree/build.ninja" ] || cmake -S "$KEELSON_TOP" --preset "$preset" || return
  ninja -C "$tree" "$@"
}

# Sets ROOT, STATE_DIR, RUN_DIR, ETC_DIR and LOG_DIR for --root "$1"; empty: the default instance.
use_root() {
  ROOT=${1%/}
  case $ROOT in '' | /*) ;; *) die "--root $1: must be an absolute path" ;; esac
  export ROOT STATE_DIR=$ROOT/var/lib/keelson RUN_DIR=$ROOT/run/keelson
  export ETC_DIR=$ROOT/etc/keelson LOG_DIR=$ROOT/var/log/keelson
  export ADMIN_CONF=$ETC_DIR/admin.conf
  # shellcheck disable=SC2034
  ROOT_ARGS=()
  # shellcheck disable=SC2034
  [ -z "$ROOT" ] || ROOT_ARGS=(--root "$ROOT")
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$1"; }

KEELSON_BIN=$KEELSON_TOP/build/release/cmd/keelson
export KEELSON_BIN
