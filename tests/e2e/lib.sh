# shellcheck shell=bash
# A small harness for end-to-end tests in shell: numbered results, polling with a deadline, kubectl, the page.
#
# check NAME COMMAND... runs a test function or command in a subshell where the first failing command ends it; what it
# printed is shown only then. The caller sets WORK, ROOT, ADMIN_CONF, KUBECTL, and has no `set -e`.

E2E_PASSED=0
E2E_FAILED=0
E2E_ONLY=${E2E_ONLY:-}   # a pattern: only the checks whose name matches are run
KUBECTL_TIMEOUT_S=45

check() {
  local name=$1 rc begin=$SECONDS number out=$WORK/check-output
  shift
  if [ -n "$E2E_ONLY" ] && ! [[ $name =~ $E2E_ONLY ]]; then return 0; fi
  number=$((E2E_PASSED + E2E_FAILED + 1))
  # Not part of a condition: there the shell would go on after a failing command inside the test.
  (set -euo pipefail; "$@") >"$out" 2>&1
  rc=$?
  if [ "$rc" = 0 ]; then
    E2E_PASSED=$((E2E_PASSED + 1))
    echo "ok $number - $name ($((SECONDS - begin)) s)"
  else
    E2E_FAILED=$((E2E_FAILED + 1))
    echo "not ok $number - $name ($((SECONDS - begin)) s)"
    tail -n 25 "$out" | cut -c1-300 | sed 's/^/#   /'
  fi
}

skip_all() {
  echo "# skip $*"
  exit 77
}

finish() {
  echo "$E2E_PASSED passed, $E2E_FAILED failed"
  [ "$E2E_FAILED" = 0 ]
}

fail() {
  echo "$*"
  return 1
}

# eventually SECONDS COMMAND...: until COMMAND succeeds; shows its last output if it never does.
eventually() {
  local limit_s=$1 begin=$SECONDS out
  shift
  until out=$("$@" 2>&1); do
    if ((SECONDS - begin >= limit_s)); then fail "not after $limit_s s: $*; last: $out"; return 1; fi
    sleep 0.3
  done
}

# k ARGS...: the kubectl under test (KUBECTL) against the cluster under test.
k() { timeout "$KUBECTL_TIMEOUT_S" "$KUBECTL" --kubeconfig "$ADMIN_CONF" "$@"; }

# expect TEXT COMMAND...: COMMAND succeeds and its output has TEXT (an extended regular expression, any line).
expect() {
  local text=$1 out
  shift
  out=$("$@" 2>&1) || { fail "failed: $*: $out"; return 1; }
  grep -qE -- "$text" <<<"$out" || fail "no '$text' in the output of $*: $out"
}

# refused TEXT COMMAND...: COMMAND fails and its output has TEXT.
refused() {
  local text=$1 out
  shift
  if out=$("$@" 2>&1); then fail "was not refused: $*: $out"; return 1; fi
  grep -qE -- "$text" <<<"$out" || fail "no '$text' in the refusal of $*: $out"
}

equal() { [ "$1" = "$2" ] || fail "got '$1', expected '$2'${3:+ ($3)}"; }

# A curl with the administrator's certificate, to the API server of ADMIN_CONF.
api() {
  local dir=$WORK/pki server
  if [ ! -d "$dir" ]; then
    mkdir -m 700 "$dir"
    "$KUBECTL" --kubeconfig "$ADMIN_CONF" config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' |
      base64 -d >"$dir/ca"
    "$KUBECTL" --kubeconfig "$ADMIN_CONF" config view --raw -o 'jsonpath={.users[0].user.client-certificate-data}' |
      base64 -d >"$dir/cert"
    "$KUBECTL" --kubeconfig "$ADMIN_CONF" config view --raw -o 'jsonpath={.users[0].user.client-key-data}' |
      base64 -d >"$dir/key"
  fi
  server=$("$KUBECTL" --kubeconfig "$ADMIN_CONF" config view -o 'jsonpath={.clusters[0].cluster.server}')
  local path=$1
  shift
  curl -sS -m 20 --cacert "$dir/ca" --cert "$dir/cert" --key "$dir/key" "$@" "$server$path"
}

# The process of a component (master, kubelet, proxy, up; containerd, docker-registry) of the cluster under test.
component_pid() {
  local dir argv
  for dir in /proc/[0-9]*; do
    mapfile -d '' -t argv 2>/dev/null <"$dir/cmdline" || continue
    [ "${#argv[@]}" -ge 2 ] || continue
    if [[ ${argv[0]##*/} == keelson && ${argv[1]} == "$1" ]] || [[ ${argv[0]##*/} == "$1" ]]; then
      if [ -z "$ROOT" ] || [[ ${argv[*]} == *"$ROOT"* ]]; then
        echo "${dir#/proc/}"
        return 0
      fi
    fi
  done
  return 1
}

# The first process of a pod's container: the one with the pod's host name that is not the pause process.
pod_main_pid() { # POD COMM
  local pid
  for pid in $(pgrep -x "$2"); do
    if [ "$(nsenter -t "$pid" -u hostname 2>/dev/null)" = "$1" ]; then echo "$pid"; return 0; fi
  done
  fail "no process $2 in pod $1"
}
