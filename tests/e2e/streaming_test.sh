#!/usr/bin/env bash
# exec, attach, cp and port-forward with the stock kubectls: 1.20 speaks SPDY, 1.32 and 1.37 WebSocket.
#
#   tests/e2e/streaming_test.sh     on the cluster that runs (KEELSON_E2E_ROOT: its --root), with every kubectl found
#
# book_test.sh sources this file and calls streaming_prepare, streaming_checks and streaming_remove itself.
# shellcheck source=tests/e2e/lib.sh

STREAM_PORT=18231
STREAM_BYTES=$((20 << 20))

# A pod that serves a page, has a second container that answers what is attached to it, and a pod with a terminal.
streaming_prepare() {
  cat >"$WORK/streams.yaml" <<'YAML'
apiVersion: v1
kind: Pod
metadata:
  name: streams
  annotations: {kubectl.kubernetes.io/default-container: main}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: keelson/busybox:test
    command: [sh, -c, 'mkdir -p /tmp/www && echo "page of $HOSTNAME" >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www']
  - name: answers
    image: keelson/busybox:test
    stdin: true
    command: [sh, -c, 'while :; do while read -r line; do echo "got $line"; done; sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: terminal
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: keelson/busybox:test
    stdin: true
    tty: true
    command: [sh, -c, 'while :; do sh; done']  # an end of input ends the inner shell only
YAML
  k delete pod streams terminal --ignore-not-found >/dev/null
  k create -f "$WORK/streams.yaml"
  eventually 60 pod_ready streams
  eventually 60 pod_ready terminal
  head -c "$STREAM_BYTES" /dev/urandom >"$WORK/blob"
}

streaming_remove() { k delete pod streams terminal --ignore-not-found; }

pod_ready() { [ "$(k get pod "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }

# In a terminal of 37 rows and 111 columns, which echoes nothing of its own.
in_terminal() { # COMMAND
  SHELL=/bin/sh timeout "$KUBECTL_TIMEOUT_S" script -qec "stty rows 37 cols 111; $1" /dev/null </dev/null | tr -d '\r'
}

exec_output() {
  equal "$(k exec streams -c main -- sh -c 'echo out; echo err >&2' 2>"$WORK/err")" out
  grep -qx err "$WORK/err" || fail "stderr: $(cat "$WORK/err")"
  equal "$(k exec streams -c main -- hostname)" streams
  # 3 MB of output, nothing lost at its end.
  equal "$(k exec streams -c main -- sh -c 'head -c 3000000 /dev/zero | tr "\0" x; echo end' | wc -c)" 3000004
}

exec_code() {
  local rc=0
  k exec streams -c main -- sh -c 'exit 7' >"$WORK/out" 2>&1 || rc=$?
  equal "$rc" 7 "$(cat "$WORK/out")"
  refused 'no-such-program|not found' k exec streams -c main -- no-such-program
  refused 'container .*nobody' k exec streams -c nobody -- true
  refused 'not found' k exec no-such-pod -- true
}

exec_stdin() {
  equal "$(printf 'one\ntwo' | k exec -i streams -c main -- cat)" "$(printf 'one\ntwo')"
  equal "$(k exec -i streams -c main -- sha256sum <"$WORK/blob" | cut -d' ' -f1)" "$(sha256sum <"$WORK/blob" | cut -d' ' -f1)"
}

exec_terminal() {
  local out
  out=$(in_terminal "$KUBECTL --kubeconfig $ADMIN_CONF exec -it streams -c main -- sh -c 'sleep 1; stty size; tty; exit 5'" ||
    echo "code $?")
  grep -q '37 111' <<<"$out" || fail "size: $out"
  grep -q '/dev/pts/' <<<"$out" || fail "no terminal: $out"
  grep -q 'code 5' <<<"$out" || fail "code: $out"
}

copy_both_ways() {
  local sum
  sum=$(sha256sum <"$WORK/blob")
  rm -f "$WORK/blob.back"
  k cp "$WORK/blob" streams:/tmp/blob -c main
  equal "$(k exec streams -c main -- sha256sum /tmp/blob | cut -d' ' -f1)" "${sum%% *}"
  k cp streams:/tmp/blob "$WORK/blob.back" -c main >/dev/null 2>&1
  equal "$(sha256sum <"$WORK/blob.back")" "$sum"
}

# says TEXT FILE COMMAND...: COMMAND, given lines by the open descriptor $input, prints TEXT into FILE; then it is ended.
says() {
  local text=$1 file=$2 pid rc=0
  shift 2
  "$@" <&"$input" >"$file" 2>&1 &
  pid=$!
  eventually 20 has_line "$text" "$file" || rc=1
  kill $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  [ $rc = 0 ] || cat "$file"
  return $rc
}
has_line() { tr -d '\r' <"$2" | grep -qx "$1"; }

attach_works() {
  local input word="hello $RANDOM"
  rm -f "$WORK/input"
  mkfifo "$WORK/input"
  exec {input}<>"$WORK/input"
  echo "$word" >&"$input"
  says "got $word" "$WORK/attached" "$KUBECTL" --kubeconfig "$ADMIN_CONF" attach -i streams -c answers
  # The shell in the terminal reads what is typed, whenever it is.
  echo 'expr 40 + 2' >&"$input"
  SHELL=/bin/sh says 42 "$WORK/attached" script -qec "$KUBECTL --kubeconfig $ADMIN_CONF attach -it terminal" /dev/null
  exec {input}>&-
}

forwarded() { curl -fsS -m 5 -H 'Connection: close' "http://127.0.0.1:$STREAM_PORT/"; }

port_forward_works() {
  local pid rc=0 i
  "$KUBECTL" --kubeconfig "$ADMIN_CONF" port-forward pod/streams "$STREAM_PORT:8080" >"$WORK/forward" 2>&1 &
  pid=$!
  eventually 15 expect '^page of streams$' forwarded || rc=1
  # Many at once, over the one connection.
  local waits=()
  for ((i = 0; i < 30; i++)); do forwarded >"$WORK/forward.$i" & waits+=($!); done
  for i in "${waits[@]}"; do wait "$i" || rc=1; done
  equal "$(cat "$WORK"/forward.[0-9]* | sort | uniq -c | tr -s ' ')" " 30 page of streams" || rc=1
  k exec streams -c main -- sh -c '[ -e /tmp/www/big ] || head -c 8000000 /dev/zero >/tmp/www/big'
  equal "$(curl -fsS -m 20 "http://127.0.0.1:$STREAM_PORT/big" | wc -c)" 8000000 || rc=1
  kill $pid
  wait $pid 2>/dev/null || true
  rm -f "$WORK"/forward.[0-9]*
  [ $rc = 0 ] || cat "$WORK/forward"
  # A port where nobody listens: the user is told.
  rm -f "$WORK/refused"
  "$KUBECTL" --kubeconfig "$ADMIN_CONF" port-forward pod/streams "$STREAM_PORT:81" >"$WORK/refused" 2>&1 &
  pid=$!
  eventually 15 grep -q Forwarding "$WORK/refused" || rc=1
  ! forwarded || rc=1
  eventually 15 grep -q 'error forwarding port 81' "$WORK/refused" || rc=1
  kill $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  return $rc
}

# What is refused whoever asks: no upgrade, no container, a page of another origin.
streaming_refusals() {
  local base=/api/v1/namespaces/default/pods/streams
  expect 'missing upgrade headers' api "$base/exec?container=main&command=id&stdout=true"
  expect '"code": ?400' api "$base/exec?container=main&command=id&stdout=true"
  expect 'missing upgrade headers' api "$base/portforward" -X POST
  expect 'at least one command' api "$base/exec?container=main&stdout=true" -X POST
  expect 'container nobody is not valid' api "$base/attach?container=nobody&stdout=true" -X POST
  expect '"code": ?403' api "$base/exec?container=main&command=id&stdout=true" -H 'Connection: Upgrade' \
    -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
    -H 'Origin: https://evil.example'
}

streaming_checks() { # VERSION
  check "kubectl $1: exec, output and errors" exec_output
  check "kubectl $1: exec, exit code and refusals" exec_code
  check "kubectl $1: exec -i, input of 20 MB" exec_stdin
  check "kubectl $1: exec -it, a terminal with its size" exec_terminal
  check "kubectl $1: cp 20 MB there and back" copy_both_ways
  check "kubectl $1: attach -i and -it" attach_works
  check "kubectl $1: port-forward, 30 connections, 8 MB, a closed port" port_forward_works
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -uo pipefail
  here=$(cd "$(dirname "$0")" && pwd)
  # shellcheck source=hack/lib.sh
  . "$here/../../hack/lib.sh"
  # shellcheck source=tests/e2e/lib.sh
  . "$here/lib.sh"
  use_root "${KEELSON_E2E_ROOT-}"
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  KUBECTL=$(command -v kubectl)
  [ -e "$ADMIN_CONF" ] || skip_all "no cluster: $ADMIN_CONF is missing"
  check "pods to stream with" streaming_prepare
  while read -r version path; do
    KUBECTL=$path
    streaming_checks "$version"
  done < <("$KEELSON_TOP/hack/kubectls")
  check "what is refused" streaming_refusals
  check "pods removed" streaming_remove
  finish
fi
