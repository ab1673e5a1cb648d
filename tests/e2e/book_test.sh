#!/usr/bin/env bash
# The user's story, from ./hack/up to ./hack/down, on a cluster of its own under KEELSON_E2E_ROOT: the book's application
# on the stand-in images, with each stock kubectl that hack/kubectls finds.
#
#   tests/e2e/book_test.sh              start, test, stop
#   tests/e2e/book_test.sh --containerd the same on a containerd instead of keelson cri
#   tests/e2e/book_test.sh --running    test the cluster that runs already, and leave it running
#   E2E_ONLY=PATTERN ...                only the checks whose name matches
#
# Ends with "N passed, N failed". Exit 77: cannot run here, see the line "# skip".
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=hack/lib.sh
. "$here/../../hack/lib.sh"
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/e2e/streaming_test.sh
. "$here/streaming_test.sh"

RUNNING=no
RUNTIME=cri
for arg; do
  case $arg in
    --running) RUNNING=yes ;;
    --containerd) RUNTIME=containerd ;;
    *) die "unknown argument '$arg'" "--running or --containerd" ;;
  esac
done
E2E_ROOT=${KEELSON_E2E_ROOT-/var/lib/keelson-e2e}
[ "$RUNNING" = no ] || E2E_ROOT=${KEELSON_E2E_ROOT-}
use_root "$E2E_ROOT"
UP_ARGS=("${ROOT_ARGS[@]}" --container-runtime "$RUNTIME")
BOOK=$KEELSON_TOP/examples/book
PAGE=http://127.0.0.1:30001/demo/
REPLICAS=5
REQUESTS=40
WORK=$(mktemp -d)
KUBECTL=$(command -v kubectl || echo kubectl)
STARTED=no

cleanup() {
  [ "$STARTED" = no ] || "$KEELSON_TOP/hack/down" --purge "${ROOT_ARGS[@]}" >"$WORK/down" 2>&1 || cat "$WORK/down"
  rm -rf "$WORK"
}
trap cleanup EXIT

# --- start and stop ----------------------------------------------------------------------------------------------

# The stand-ins built before, if they are from the same inputs, save this instance from building them again.
borrow_images() {
  local from=/var/lib/keelson/registry
  if [ -n "$ROOT" ] && [ -d $from ] && [ ! -d "$STATE_DIR/registry" ]; then
    mkdir -p "$STATE_DIR"
    cp -a --reflink=auto $from "$STATE_DIR/registry"
  fi
}

up_works() {
  borrow_images
  "$KEELSON_TOP/hack/up" --stand-in "${UP_ARGS[@]}" >"$WORK/up" 2>&1 </dev/null || { tail -n 40 "$WORK/up"; return 1; }
  tail -n 1 "$WORK/up" | grep -qx "export KUBECONFIG=$ADMIN_CONF" || fail "$(tail -n 5 "$WORK/up")"
  grep -q "^The page: $PAGE" "$WORK/up"
  grep -q "replicationcontroller/myweb  *5  *5  *5" "$WORK/up"
}

up_again_is_quick() {
  local begin=$SECONDS
  "$KEELSON_TOP/hack/up" --stand-in "${UP_ARGS[@]}" >"$WORK/up2" 2>&1 </dev/null || { tail -n 20 "$WORK/up2"; return 1; }
  ((SECONDS - begin <= 20)) || fail "took $((SECONDS - begin)) s"
}

# The store remembers from before that all was well; what it says must be true of now.
up_again_after_down() {
  local pod
  "$KEELSON_TOP/hack/up" --stand-in "${UP_ARGS[@]}" >"$WORK/up5" 2>&1 </dev/null || { tail -n 20 "$WORK/up5"; return 1; }
  grep -q "replicationcontroller/myweb  *5  *5  *5" "$WORK/up5"
  for pod in $(k get pods -l app=myweb -o 'jsonpath={.items[*].metadata.name}'); do pod_main_pid "$pod" java >/dev/null; done
  eventually 30 requests_meet_all
}

down_leaves_nothing() {
  "$KEELSON_TOP/hack/down" "${ROOT_ARGS[@]}" 2>&1
  "$KEELSON_TOP/hack/leftovers" "${ROOT_ARGS[@]}"
  [ -d "$STATE_DIR/registry" ] || fail "the images are gone without --purge"
}

# --- the page ----------------------------------------------------------------------------------------------------

get_page() { curl -fsS -m 15 -H 'Connection: close' "$PAGE"; }
pod_of() { sed -n 's/.*id="pod">\([^<]*\)<.*/\1/p'; }

page_has_rows() { # ADDRESS
  local page
  page=$(curl -fsS -m 15 "http://$1:30001/demo/") || return 1
  grep -q 'Congratulations' <<<"$page"
  # The name, not an address: cluster DNS found it.
  grep -q 'rows read from <b>mysql:3306</b>' <<<"$page"
  [ "$(grep -c '^<tr><td>' <<<"$page")" -ge 5 ] || fail "rows: $page"
  pod_of <<<"$page" | grep -q '^myweb-' || fail "no pod name: $page"
}

page_by_node_address() {
  local address
  address=$(k get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  [ -n "$address" ] || fail "the node has no InternalIP"
  page_has_rows "$address"
}

requests_meet_all() {
  local i
  for ((i = 0; i < REQUESTS; i++)); do get_page | pod_of; done | sort | uniq -c >"$WORK/met"
  equal "$(wc -l <"$WORK/met")" "$REPLICAS" "pods met in $REQUESTS requests: $(cat "$WORK/met")"
}

row_seen_everywhere() {
  local name="row <&> $RANDOM$RANDOM" escaped i page
  curl -fsS -m 15 -o /dev/null --data-urlencode "name=$name" -d level=7 "$PAGE"
  escaped="row &lt;&amp;&gt; ${name##* }"
  : >"$WORK/seen"
  for ((i = 0; i < 4 * REQUESTS && $(sort -u "$WORK/seen" | wc -l) < REPLICAS; i++)); do
    page=$(get_page)
    grep -qF "<td>$escaped</td><td>7</td>" <<<"$page" || fail "pod $(pod_of <<<"$page") does not show the row"
    pod_of <<<"$page" >>"$WORK/seen"
  done
  equal "$(sort -u "$WORK/seen" | wc -l)" "$REPLICAS" "replicas that show the row"
}

# --- manifests with the book's mistake ---------------------------------------------------------------------------

as_printed_refused() {
  sed 's/name: myweb/name: as-printed/' "$BOOK/tomcat-service.as-printed.yaml" >"$WORK/as-printed.yaml"
  grep -q 'nodePort:30001' "$WORK/as-printed.yaml"
  refused 'yaml|YAML' k create -f "$WORK/as-printed.yaml"
  refused 'NotFound|not found' k get svc as-printed
}

wrong_port_refused() {
  printf '%s\n' 'apiVersion: v1' 'kind: Service' 'metadata: {name: wrong-port}' 'spec:' '  type: NodePort' \
    '  ports:' '  - port: "8080 nodePort:30001"' '  selector: {app: myweb}' >"$WORK/wrong-port.yaml"
  refused '.' k create -f "$WORK/wrong-port.yaml"
  # Unchecked by the client, so that the words are the server's.
  refused 'spec\.ports\[0\]\.port' k create --validate=false -f "$WORK/wrong-port.yaml"
  refused '8080 nodePort:30001' k create --validate=false -f "$WORK/wrong-port.yaml"
  refused 'NotFound|not found' k get svc wrong-port
}

yaml_reader_names_the_line() {
  local out
  out=$(api /api/v1/namespaces/default/services -X POST -H 'Content-Type: application/yaml' \
    --data-binary "@$BOOK/tomcat-service.as-printed.yaml" -w '\n%{http_code}')
  equal "$(tail -n 1 <<<"$out")" 400 "$out"
  grep -q 'line 9' <<<"$out" || fail "the line is not named: $out"
  grep -qi 'space' <<<"$out" || fail "no hint at the missing space: $out"
}

# --- each kubectl ------------------------------------------------------------------------------------------------

# An RC that writes a line a second, and a pod that ends at once.
write_manifests() {
  cat >"$WORK/counter.yaml" <<'YAML'
apiVersion: v1
kind: ReplicationController
metadata:
  name: counter
  labels: {app: counter}
spec:
  replicas: 1
  selector: {app: counter}
  template:
    metadata:
      labels: {app: counter}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: counter
        image: keelson/busybox:test
        command: [sh, -c, 'trap "exit 0" TERM; n=0; while :; do echo "line $n"; n=$((n+1)); sleep 1 & wait $!; done']
YAML
  cat >"$WORK/crasher.yaml" <<'YAML'
apiVersion: v1
kind: Pod
metadata:
  name: crasher
  labels: {app: crasher}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: crasher
    image: keelson/busybox:test
    command: [sh, -c, 'echo "ran as $HOSTNAME"; exit 3']
YAML
  cat >"$WORK/applied.yaml" <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata:
  name: applied
data:
  key: one
  gone: later
YAML
}

counter_pod() { k get pods -l app=counter -o 'jsonpath={.items[0].metadata.name}'; }
ready_replicas() { [ "$(k get rc "$1" -o 'jsonpath={.status.readyReplicas}')" = "$2" ]; }
pods_are() { [ "$(k get pods -l "app=$1" -o name | wc -l)" = "$2" ]; }
no_pods() { [ -z "$(k get pods -l "app=$1" -o name)" ]; }

verb_create() {
  k delete rc/counter pod/crasher --ignore-not-found >/dev/null
  eventually 60 no_pods counter
  expect 'replicationcontroller/counter created' k create -f "$WORK/counter.yaml"
  refused 'already exists' k create -f "$WORK/counter.yaml"
  expect 'pod/crasher created' k create -f "$WORK/crasher.yaml"
  eventually 60 ready_replicas counter 1
}

verb_get() {
  local kind
  for kind in rc pods svc nodes all; do
    expect 'NAME' k get "$kind"
    expect 'NAME' k get "$kind" -o wide
    expect 'apiVersion: v1' k get "$kind" -o yaml
    k get "$kind" -o json | python3 -c 'import json,sys; assert json.load(sys.stdin)["items"]'
    expect '^[a-z]*/' k get "$kind" -o name
    expect 'NAME' k get "$kind" -A
  done
  expect 'counter +1 +1 +1' k get rc
  expect 'mysql +1 +1 +1 +[0-9]+[a-z0-9]* +mysql +mysql:5.6 +app=mysql' k get rc -o wide
  expect 'counter-.{5} +1/1 +Running +0 ' k get pods
  expect 'counter-.{5} .* 10\.244\.' k get pods -o wide
  expect 'myweb +NodePort +10\.[0-9.]+ +<none> +8080:30001/TCP' k get svc
  expect ' Ready ' k get nodes
  equal "$(k get pods -l app=counter -o name | wc -l)" 1
  equal "$(k get pods -l 'app in (mysql,counter),app!=mysql' --no-headers | wc -l)" 1
  expect 'NAMESPACE' k get pods -A
  refused 'not found' k get pod no-such-pod
}

watched() { [ "$(awk '/^counter-/ {print $1}' "$WORK/watch" | sort -u | wc -l)" -ge "$1" ]; }

verb_watch() {
  timeout 20 "$KUBECTL" --kubeconfig "$ADMIN_CONF" get pods -l app=counter -w >"$WORK/watch" 2>&1 &
  local pid=$!
  eventually 10 grep -q '^counter-' "$WORK/watch"
  k delete pod "$(counter_pod)" >/dev/null
  eventually 30 ready_replicas counter 1
  eventually 10 watched 2 || { cat "$WORK/watch"; kill $pid; return 1; }
  kill $pid
}

verb_describe() {
  expect 'Replicas: +1 current / 1 desired' k describe rc counter
  expect 'SuccessfulCreate' k describe rc counter
  expect 'Image: +keelson/busybox:test' k describe pod "$(counter_pod)"
  expect 'Started +.*kubelet' k describe pod "$(counter_pod)"
  expect 'NodePort: +<unset> +30001/TCP' k describe svc myweb
  expect 'Endpoints: +10\.244\.' k describe svc mysql
  expect 'Non-terminated Pods:' k describe node
  expect 'Ready +True' k describe node
}

has_lines() { [ "$(wc -l <"$2")" -ge "$1" ]; }

verb_logs() {
  local pod
  pod=$(counter_pod)
  eventually 20 expect '^line 1$' k logs "$pod"
  equal "$(k logs "$pod" --tail=1 | wc -l)" 1
  equal "$(k logs "$pod" --tail 0 | wc -l)" 0
  timeout 20 "$KUBECTL" --kubeconfig "$ADMIN_CONF" logs -f --tail=1 "$pod" >"$WORK/follow" &
  local follow=$!
  eventually 10 has_lines 3 "$WORK/follow" || { cat "$WORK/follow"; kill $follow; return 1; }
  kill $follow
  eventually 60 expect '^ran as crasher$' k logs crasher --previous
  refused 'previous terminated container|not found' k logs "$pod" --previous
}

verb_scale() {
  expect 'scaled' k scale rc counter --replicas=3
  eventually 60 ready_replicas counter 3
  refused '.' k scale rc counter --current-replicas=7 --replicas=1
  expect 'scaled' k scale rc counter --replicas=1
  eventually 60 pods_are counter 1
}

verb_label() {
  expect 'labeled' k label rc counter tier=test
  equal "$(k get rc -l tier=test -o name)" replicationcontroller/counter
  refused 'already has a value|overwrite' k label rc counter tier=other
  expect 'labeled' k label rc counter tier=other --overwrite
  k label rc counter tier- >/dev/null
  equal "$(k get rc -l tier -o name)" ''
}

verb_patch() {
  expect 'patched' k patch rc counter -p '{"metadata":{"annotations":{"a":"1"}}}'
  expect 'patched' k patch rc counter --type merge -p '{"metadata":{"annotations":{"b":"2"}}}'
  expect 'patched' k patch rc counter --type json -p '[{"op":"replace","path":"/metadata/annotations/a","value":"3"}]'
  equal "$(k get rc counter -o 'jsonpath={.metadata.annotations.a}{.metadata.annotations.b}')" 32
  # Strategic: the container is found by its name, and the others of its fields stay.
  k patch rc counter -p '{"spec":{"template":{"spec":{"containers":[{"name":"counter","env":[{"name":"X","value":"y"}]}]}}}}'
  equal "$(k get rc counter -o 'jsonpath={range .spec.template.spec.containers[*]}{.image}{.env[0].value}{end}')" \
    keelson/busybox:testy
  refused 'spec.replicas' k patch rc counter -p '{"spec":{"replicas":-1}}'
}

verb_apply() {
  k delete configmap applied --ignore-not-found >/dev/null
  expect 'configmap/applied created' k apply -f "$WORK/applied.yaml"
  expect 'configmap/applied unchanged' k apply -f "$WORK/applied.yaml"
  sed -e '/gone:/d' -e 's/one/two/' "$WORK/applied.yaml" >"$WORK/applied2.yaml"
  expect 'configmap/applied configured' k apply -f "$WORK/applied2.yaml"
  equal "$(k get configmap applied -o 'jsonpath={.data}')" '{"key":"two"}'
  k delete -f "$WORK/applied.yaml" >/dev/null
}

verb_discovery() {
  expect '^replicationcontrollers +rc +' k api-resources
  expect '^services +svc +' k api-resources --namespaced=true
  expect 'Server Version: .*v?1\.' k version
  expect '(control plane|master).* is running at .*https://' k cluster-info
  expect 'replicas' k explain rc.spec
  expect 'containerPort' k explain pod.spec.containers.ports
  refused 'does not exist|unknown|couldn.t find' k explain rc.spec.nonsense
}

unknown_field_refused() {
  sed 's/  replicas: 1/  replicaz: 1/; s/name: counter$/name: unknown-field/' "$WORK/counter.yaml" >"$WORK/unknown.yaml"
  refused 'replicaz' k create -f "$WORK/unknown.yaml"
}

verb_delete() {
  expect 'deleted' k delete rc counter
  expect 'deleted' k delete pod crasher
  eventually 60 no_pods counter
  refused 'not found' k get rc counter
}

with_kubectl() { # VERSION PATH
  local v=$1
  KUBECTL=$2
  check "kubectl $v: the printed manifest is refused, nothing is created" as_printed_refused
  check "kubectl $v: port \"8080 nodePort:30001\" is refused by name" wrong_port_refused
  check "kubectl $v: create" verb_create
  check "kubectl $v: get in every form" verb_get
  check "kubectl $v: get -w" verb_watch
  check "kubectl $v: describe" verb_describe
  check "kubectl $v: logs, -f, --tail, --previous" verb_logs
  check "kubectl $v: scale rc" verb_scale
  check "kubectl $v: label" verb_label
  check "kubectl $v: patch" verb_patch
  check "kubectl $v: apply" verb_apply
  check "kubectl $v: api-resources, version, cluster-info, explain" verb_discovery
  check "kubectl $v: an unknown field is refused" unknown_field_refused
  streaming_checks "$v"
  check "kubectl $v: delete" verb_delete
}

# --- self-healing ------------------------------------------------------------------------------------------------

first_web_pod() { k get pods -l app=myweb -o 'jsonpath={.items[0].metadata.name}'; }
restarts() { k get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
restarted() {
  [ "$(restarts "$1")" -gt "$2" ] && [ "$(k get pod "$1" -o 'jsonpath={.status.containerStatuses[0].ready}')" = true ]
}

killed_container_restarts() {
  local pod before pid
  pod=$(first_web_pod)
  before=$(restarts "$pod")
  pid=$(pod_main_pid "$pod" java)
  kill -9 "$pid"
  eventually 60 restarted "$pod" "$before"
  eventually 60 requests_meet_all
}

deleted_pod_is_replaced() {
  local pod
  pod=$(first_web_pod)
  k delete pod "$pod" >/dev/null
  refused 'not found' k get pod "$pod"
  eventually 60 ready_replicas myweb "$REPLICAS"
  equal "$(k get pods -l app=myweb -o name | wc -l)" "$REPLICAS"
  eventually 60 requests_meet_all
}

# What must not change while components die: every container, its restarts, and the addresses behind the Services.
snapshot() {
  local fields='{.metadata.name} {.metadata.uid} {.status.podIP}'
  fields="$fields {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}"
  k get pods -o "jsonpath={range .items[*]}$fields{\"\\n\"}{end}" | sort
}
endpoint_addresses() {
  k get endpoints mysql myweb -o 'jsonpath={range .items[*].subsets[*].addresses[*]}{.ip}{"\n"}{end}' | sort
}

endpoints_are() { [ "$(endpoint_addresses)" = "$1" ]; }

component_back() { # NAME OLD_PID
  local pid
  pid=$(component_pid "$1") && [ "$pid" != "$2" ]
}
cluster_well() {
  k get --raw /readyz >/dev/null &&
    k get nodes -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}

# Requests the page all the time; what failed is in $WORK/failures.
start_load() {
  : >"$WORK/failures"
  (while [ ! -e "$WORK/stop-load" ]; do
    curl -fsS -m 10 -o /dev/null "$PAGE" 2>>"$WORK/failures" || echo "at $(date +%T)" >>"$WORK/failures"
    sleep 0.05
  done) &
  LOAD_PID=$!
}
stop_load() {
  touch "$WORK/stop-load"
  wait "$LOAD_PID" || true
  rm -f "$WORK/stop-load"
}

survives_kill() { # NAME...: kill -9 of these components at once
  local name before endpoints old=() i=0 rc=0 marker
  before=$(snapshot)
  endpoints=$(endpoint_addresses)
  marker=kept-$RANDOM$RANDOM
  for name; do old+=("$(component_pid "$name")"); done
  # Every change of the endpoints while it lasts.
  timeout 120 "$KUBECTL" --kubeconfig "$ADMIN_CONF" get endpoints myweb -w -o \
    'jsonpath={.subsets[*].notReadyAddresses}{"\n"}' >"$WORK/endpoints" 2>/dev/null &
  local watch=$!
  start_load
  k create configmap "$marker" --from-literal=a=b >/dev/null
  kill -9 "${old[@]}"
  case " $* " in *" up "*) sleep 0.5; "$KEELSON_BIN" up --detach "${UP_ARGS[@]}" || rc=1 ;; esac
  for name; do
    eventually 60 component_back "$name" "${old[$i]}" || rc=1
    i=$((i + 1))
  done
  eventually 60 cluster_well || rc=1
  eventually 30 endpoints_are "$endpoints" || rc=1
  sleep 2
  stop_load
  kill $watch 2>/dev/null || true
  k get configmap "$marker" >/dev/null || rc=1
  k delete configmap "$marker" >/dev/null || rc=1
  [ "$(snapshot)" = "$before" ] || { echo "before: $before"; echo "after: $(snapshot)"; rc=1; }
  [ ! -s "$WORK/failures" ] || { echo "requests failed: $(head -n 5 "$WORK/failures")"; rc=1; }
  ! grep -q '[0-9]' "$WORK/endpoints" || { echo "endpoints were not ready: $(head -n 3 "$WORK/endpoints")"; rc=1; }
  return $rc
}

# As after a `git pull` and a build: the same program under its name, but another file.
new_build_is_taken_up() {
  local before endpoints name old=() i=0 rc=0
  before=$(snapshot)
  endpoints=$(endpoint_addresses)
  local ours=(up master kubelet proxy)
  [ "$RUNTIME" = containerd ] || ours+=(cri)
  for name in "${ours[@]}"; do old+=("$(component_pid "$name")"); done
  cp -p "$KEELSON_BIN" "$KEELSON_BIN.new"
  mv "$KEELSON_BIN.new" "$KEELSON_BIN"
  start_load
  "$KEELSON_TOP/hack/up" --stand-in "${UP_ARGS[@]}" >"$WORK/up3" 2>&1 </dev/null || rc=1
  for name in "${ours[@]:1}"; do grep -q "$name restarted: its executable is a new one" "$WORK/up3" || rc=1; done
  for name in "${ours[@]}"; do
    component_back "$name" "${old[$i]}" || { echo "$name is the old one"; rc=1; }
    i=$((i + 1))
  done
  eventually 30 endpoints_are "$endpoints" || rc=1
  sleep 2
  stop_load
  [ "$(snapshot)" = "$before" ] || { echo "before: $before"; echo "after: $(snapshot)"; rc=1; }
  [ ! -s "$WORK/failures" ] || { echo "requests failed: $(head -n 5 "$WORK/failures")"; rc=1; }
  "$KEELSON_TOP/hack/up" --stand-in "${UP_ARGS[@]}" >"$WORK/up4" 2>&1 </dev/null || rc=1
  ! grep restarted "$WORK/up4" || rc=1
  [ $rc = 0 ] || tail -n 30 "$WORK/up3"
  return $rc
}

survives_everything_in_turn() {
  local name
  for name in proxy "$RUNTIME" up master kubelet; do survives_kill "$name" || return 1; done
}

# --- bounds the proxy must keep ----------------------------------------------------------------------------------

# A pod must not reach what listens on the host's loopback (CVE-2020-8558).
loopback_is_the_hosts() {
  local pid address
  pid=$(pod_main_pid "$(first_web_pod)" java)
  address=$(k get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  # From inside the pod's network the NodePort answers on the node's address, ...
  nsenter -t "$pid" -n curl -fsS -m 10 -o /dev/null "http://$address:30001/demo/"
  # ... and 127.0.0.0/8 routed to the host does not.
  nsenter -t "$pid" -n sh -c 'ip route get 127.0.0.1 >/dev/null'
  ! nsenter -t "$pid" -n curl -fsS -m 3 -o /dev/null http://127.0.0.1:5000/v2/ || fail "the host's loopback answered a pod"
}

kubernetes_service_answers() {
  local pid
  pid=$(pod_main_pid "$(first_web_pod)" java)
  expect '"gitVersion"' nsenter -t "$pid" -n curl -sSk -m 10 https://10.96.0.1/version
}

# --- all of it ---------------------------------------------------------------------------------------------------

main() {
  local version path
  [ "$(id -u)" = 0 ] || skip_all "book_test needs root: it starts a cluster"
  [ -x "$KEELSON_BIN" ] || skip_all "book_test needs the release build: $KEELSON_BIN"
  if [ "$RUNNING" = no ]; then
    if ROOT="" component_pid up >/dev/null || ROOT="" component_pid master >/dev/null; then
      skip_all "another cluster runs here and has the ports; stop it, or test it with --running"
    fi
    "$KEELSON_TOP/hack/down" --purge "${ROOT_ARGS[@]}" >/dev/null 2>&1 || true
    STARTED=yes
    check "hack/up starts the cluster and the application" up_works
    check "hack/up again is harmless and quick" up_again_is_quick
  fi
  [ -e "$ADMIN_CONF" ] || { echo "Bail out! no cluster: $ADMIN_CONF is missing"; finish; exit 1; }
  write_manifests
  check "the page through 127.0.0.1, rows by the name mysql" page_has_rows 127.0.0.1
  check "the page through the node's address" page_by_node_address
  check "$REQUESTS requests meet all $REPLICAS replicas" requests_meet_all
  check "a row added is seen through every replica" row_seen_everywhere
  check "our YAML reader names line and missing space" yaml_reader_names_the_line
  check "pods to stream with" streaming_prepare
  while read -r version path; do
    with_kubectl "$version" "$path"
  done < <("$KEELSON_TOP/hack/kubectls")
  KUBECTL=$(command -v kubectl)
  check "exec and the like without an upgrade are refused" streaming_refusals
  check "pods to stream with are removed" streaming_remove
  check "a pod does not reach the host's loopback" loopback_is_the_hosts
  check "a pod reaches the API server by its Service" kubernetes_service_answers
  check "a killed container is restarted" killed_container_restarts
  check "a deleted pod is replaced" deleted_pod_is_replaced
  for version in master kubelet proxy "$RUNTIME" up; do
    check "kill -9 of $version: nothing restarts, all keeps serving" survives_kill "$version"
  done
  check "kill -9 of master and kubelet at once" survives_kill master kubelet
  check "kill -9 of all, one after the other" survives_everything_in_turn
  if [ "$RUNNING" = no ]; then
    check "hack/up after a new build restarts what runs, pods go on" new_build_is_taken_up
    check "hack/down leaves nothing" down_leaves_nothing
    check "hack/up after hack/down: all pods run when it says so" up_again_after_down
    check "hack/down leaves nothing, again" down_leaves_nothing
  fi
  finish
}
main
