# shellcheck shell=bash
# The scene of the demo with a device: a second engine in a network of its own, which becomes a host
# by the printed line and is cut off. Sourced by `demo`, whose helpers it uses.
# shellcheck disable=SC2154 # what `demo` sets

DEVICE=demo-device
DEVICE_APP=hello-edge
# Demos in other directories have others. Of the network for tests of network devices (RFC 2544).
NAMESPACE=weir-$$
GATEWAY=198.19.$(($$ % 256)).1
DEVICE_ADDRESS=198.19.$(($$ % 256)).2
machine= # the process of `test-host`
agent=   # that of `weir-agent run`

has_edge() {
    [[ ${EDGE:-1} != 0 && $EUID -eq 0 ]] && have ip && have nsenter && have dockerd
}

edge() {
    step "A device: another machine, in a network of its own"
    device_dir=$(mktemp -d) device_state=$(mktemp -d)
    printf '{"hosts": ["unix://%s/docker.sock"]}' "$device_dir" >"$device_dir/daemon.json"
    # It is there until its input ends.
    mkfifo "$device_dir/input" "$device_dir/output"
    scripts/test-host "$NAMESPACE" "$device_dir" "$GATEWAY" "$DEVICE_ADDRESS" \
        <"$device_dir/input" >"$device_dir/output" &
    machine=$!
    exec 7>"$device_dir/input" 8<"$device_dir/output"
    local ready
    read -r -t 60 ready <&8 && [[ $ready == ready ]] || fail "the second Docker Engine did not start"
    docker save "$IMAGE" | docker -H "unix://$device_dir/docker.sock" load >/dev/null
    ok "a second Docker Engine, at the end of a line of its own"
    enrol_device
    run_app_on_device
    cut_device_off
}

enrol_device() {
    step "It is enrolled by the printed line"
    local line
    show "$weir device invite --name $DEVICE --control $GATEWAY:$devices"
    line=$(WEIR_STATE_DIR=$STATE "$weir" device invite --name "$DEVICE" --control "$GATEWAY:$devices" 2>/dev/null) ||
        fail "no invitation"
    ok "${line% *} …"
    # shellcheck disable=SC2086 # the line's words
    (on_device $line >/dev/null) || fail "it is not enrolled"
    # Whoever has the input of `test-host` open keeps the machine.
    (on_device weir-agent run >>"$STATE/agent.log" 2>&1 7>&- 8<&-) &
    agent=$!
    wait_until 30 device_is ready || fail "the device is not ready: $(tail -n 3 "$STATE/agent.log")"
    weir_cli device ls
}

run_app_on_device() {
    step "An app runs there, and is served at its own subdomain"
    local spec
    spec=$(jq -nc --arg image "$IMAGE" --arg name "$DEVICE_APP" --arg device "$DEVICE" '{
        kind: "App", name: $name,
        spec: {
            image: $image, port: 8080, health: {type: "http", path: "/", interval: "1s"},
            placement: {hosts: {device: $device}}, rollout: {stop_grace: "1s"}
        }}')
    device_api=http://127.0.0.1:$admin/v1/apps/$DEVICE_APP
    device_url=$(origin https "$DEVICE_APP.$BASE" "$https")/
    device_user=(--cacert "$roots" --resolve "$DEVICE_APP.$BASE:$https:127.0.0.1")
    curl_api -X PUT -H 'Content-Type: application/json' -d "$spec" "$device_api?wait=60s"
    [[ $status == 20[01] ]] || fail "the app was not accepted: $body"
    request curl "${device_user[@]}" "$device_url"
    expect 200
    ok "through the one connection that the device makes"
}

cut_device_off() {
    step "The line is cut: the app goes on where it is"
    local id address before
    id=$(docker -H "unix://$device_dir/docker.sock" ps -q)
    before=$(docker -H "unix://$device_dir/docker.sock" inspect -f '{{.State.StartedAt}}' "$id")
    address=$(docker -H "unix://$device_dir/docker.sock" inspect -f '{{.NetworkSettings.IPAddress}}' "$id")
    ip -n "$NAMESPACE" link set eth0 down
    wait_until 60 answers 503 || fail "nobody says that it cannot be reached"
    ok "503 from here"
    ip netns exec "$NAMESPACE" curl -fsS --max-time 5 "http://$address:8080/" >/dev/null ||
        fail "it does not answer on the device"
    ok "200 on the device itself"
    ip -n "$NAMESPACE" link set eth0 up
    local from=$EPOCHREALTIME
    wait_until 60 answers 200 || fail "it does not come back"
    ok "200 from here again, $(seconds_between "$from" "$EPOCHREALTIME") s after the line is mended"
    [[ $(docker -H "unix://$device_dir/docker.sock" inspect -f '{{.State.StartedAt}}' "$id") == "$before" ]] ||
        fail "the app was restarted"
    ok "nothing was restarted"
}

# Becomes a command of the agent in the device's network.
on_device() {
    shift
    export WEIR_AGENT_STATE_DIR=$device_state WEIR_AGENT_DOCKER=$device_dir/docker.sock
    exec nsenter --net="/run/netns/$NAMESPACE" "$(dirname "$weir")/weir-agent" "$@"
}

device_is() {
    still_runs
    [[ $(curl_quietly "http://127.0.0.1:$admin/v1/hosts/$DEVICE" | jq -r .status.state) == "$1" ]]
}

answers() {
    [[ $(curl -s --max-time 5 -o /dev/null -w '%{http_code}' "${device_user[@]}" "$device_url") == "$1" ]]
}

end_edge() {
    [[ -n $machine ]] || return 0
    if [[ -n ${device_api:-} ]]; then
        curl_quietly -o /dev/null -X DELETE "$device_api"
        wait_until 20 device_is_empty
    fi
    curl_quietly -o /dev/null -X DELETE "http://127.0.0.1:$admin/v1/hosts/$DEVICE"
    curl_quietly -o /dev/null -X POST "http://127.0.0.1:$admin/v1/devices/$DEVICE/actions/revoke"
    [[ -z $agent ]] || kill "$agent"
    exec 7>&- 8<&-
    wait "$machine"
    rm -rf "$device_dir" "$device_state"
    machine=
} 2>/dev/null

device_is_empty() {
    [[ -z $(docker -H "unix://$device_dir/docker.sock" ps -aq) ]]
}
