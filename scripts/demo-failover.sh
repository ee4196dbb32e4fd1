# shellcheck shell=bash
# The scene of the demo with two stand-ins for CDNs, of which one dies. Sourced by `demo`, whose
# helpers it uses.
# shellcheck disable=SC2154 # what `demo` sets

FRONT=front
SHOP_ZONE=shop.test
SHOP=www.$SHOP_ZONE
CDN_A=127.0.0.2
CDN_B=127.0.0.3
cdn_a= # the processes of the stand-ins, while they run
cdn_b=
cdn_dir=

failover() {
    step "Failover: two stand-ins for CDNs, and a policy over them"
    cdn_dir=$(mktemp -d)
    cdn_port=$(free_port 8081 "$http" "$https" "$admin" "$dns" "$devices")
    start_cdn a "$CDN_A" && cdn_a=$!
    start_cdn b "$CDN_B" && cdn_b=$!
    write_policy
    # What an earlier demo decided is not this one's.
    forget_policy
    show "cat $STATE/failover.yaml"
    cat "$STATE/failover.yaml"
    weir_cli apply -f "$STATE/failover.yaml"
    wait_until 30 targets_are_up || fail "the targets have not proved themselves: $(policy_status)"
    ok "both have answered five times in a row"

    step "Before: everybody goes to the first one"
    leads_to "$CDN_A" "CDN a"
    step "The first one dies"
    local from=$EPOCHREALTIME
    show "kill -KILL $cdn_a"
    kill -KILL "$cdn_a"
    wait "$cdn_a" 2>/dev/null || true
    cdn_a=
    curl_front
    [[ $body == *"CDN b"* ]] || fail "the other one did not answer: $body"
    ok "a request that comes now is answered by the other one"
    wait_until 15 answers_with "$CDN_B" || fail "the DNS still leads to a dead target: $(policy_status)"
    ok "the DNS leads to the other one $(seconds_between "$from" "$EPOCHREALTIME") s after the death"
    step "After"
    leads_to "$CDN_B" "CDN b"
    weir_cli failover status shop
    wait_until 30 has_incident || fail "there is no incident"
    weir_cli incident show "$(incident_id)"
    forget_policy
    end_failover
}

# The app first, which needs the policy.
forget_policy() {
    local kind
    for kind in "apps/$FRONT" failover-policies/shop; do
        curl_quietly -o /dev/null -X DELETE "http://127.0.0.1:$admin/v1/$kind"
    done
}

# Busybox serves one page, at an address of its own.
start_cdn() {
    mkdir -p "$cdn_dir/$1"
    printf 'Hello from CDN %s.\n' "$1" >"$cdn_dir/$1/index.html"
    "$(static_busybox)" httpd -f -p "$2:$cdn_port" -h "$cdn_dir/$1" &
}

write_policy() {
    cat >"$STATE/failover.yaml" <<END
kind: Zone
name: $SHOP_ZONE
spec: {addresses: [127.0.0.1]}
---
kind: FailoverPolicy
name: shop
spec:
  hostnames: [$SHOP]
  targets:
    - {name: cdn-a, addresses: [$CDN_A], check: {path: /, port: $cdn_port, tls: false}}
    - {name: cdn-b, addresses: [$CDN_B], check: {path: /, port: $cdn_port, tls: false}}
---
kind: App
name: $FRONT
spec: {failover: shop}
END
}

# What the DNS and the proxy say, as a user sees it.
leads_to() {
    local answer
    show "dig @127.0.0.1 -p $dns $SHOP A +noall +answer"
    dig @127.0.0.1 -p "$dns" "$SHOP" A +noall +answer
    answer=$(dig @127.0.0.1 -p "$dns" "$SHOP" A +short)
    [[ $answer == "$1" ]] || fail "$SHOP leads to '$answer'"
    curl_front
    expect 200
    [[ $body == *"$2"* ]] || fail "this is not $2: $body"
}

curl_front() {
    local host=$FRONT.$BASE
    request curl --cacert "$roots" --resolve "$host:$https:127.0.0.1" "$(origin https "$host" "$https")/"
}

answers_with() {
    still_runs
    [[ $(dig @127.0.0.1 -p "$dns" "$SHOP" A +short) == "$1" ]]
}

policy_status() {
    curl_quietly "http://127.0.0.1:$admin/v1/failover-policies/shop/status"
}

targets_are_up() {
    still_runs
    policy_status | jq -e '.targets | length == 2 and all(.health == "up")' >/dev/null 2>&1
}

incident_id() {
    curl_quietly "http://127.0.0.1:$admin/v1/incidents?subject=FailoverPolicy/shop" |
        jq -r '.items[0].id // empty'
}

has_incident() {
    [[ -n $(incident_id) ]]
}

# Ends the stand-ins, also when the demo is broken off.
end_failover() {
    [[ -z $cdn_a ]] || kill "$cdn_a" 2>/dev/null || true
    [[ -z $cdn_b ]] || kill "$cdn_b" 2>/dev/null || true
    [[ -z $cdn_dir ]] || rm -rf "$cdn_dir"
    cdn_a='' cdn_b='' cdn_dir=''
}
