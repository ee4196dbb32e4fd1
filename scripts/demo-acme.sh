# shellcheck shell=bash
# The scene of the demo with a certificate authority: Pebble, Let's Encrypt's own for tests, which
# finds everything by asking Weir's name server. Sourced by `demo`, whose helpers it uses.
# shellcheck disable=SC2154 # what `demo` sets

ISSUER=pebble

pebble=        # its process
pebble_dir=    # what it reads
pebble_origin= # where it is asked

acme() {
    step "A wildcard certificate by ACME"
    start_pebble
    local from=$EPOCHREALTIME
    weir_cli cert issuer set "$ISSUER" --directory "$pebble_origin/dir" \
        --roots "$pebble_dir/own.pem" --agree-to-terms
    weir_cli cert show "$BASE" --wait 30s
    ok "zone → record → certificate: $(seconds_between "$from" "$EPOCHREALTIME") s after the authority was named"

    step "200 over HTTPS, verified against that authority's root"
    roots=$STATE/pebble-root.pem
    request curl --cacert "$pebble_dir/own.pem" -o "$roots" "$pebble_management/roots/0"
    user=(--cacert "$roots" --resolve "$HOST:$https:127.0.0.1")
    curl_user --http2 "$url"
    expect 200 2
    show "dig @127.0.0.1 -p $dns _acme-challenge.$BASE TXT +short"
    [[ -z $(dig @127.0.0.1 -p "$dns" "_acme-challenge.$BASE" TXT +short) ]] || fail "the proof is still there"
    ok "nothing is left of the proof"
}

start_pebble() {
    local api management
    pebble_dir=$(mktemp -d)
    api=$(free_port 14000 "$http" "$https" "$admin" "$dns" "$devices")
    management=$(free_port 15000 "$api" "$http" "$https" "$admin" "$dns" "$devices")
    pebble_origin=https://127.0.0.1:$api pebble_management=https://127.0.0.1:$management
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=Pebble \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$pebble_dir/own.key" -out "$pebble_dir/own.pem" 2>/dev/null
    jq -nc --arg dir "$pebble_dir" --arg api "127.0.0.1:$api" --arg management "127.0.0.1:$management" \
        --argjson http "$http" --argjson https "$https" '{pebble: {
            listenAddress: $api, managementListenAddress: $management,
            certificate: ($dir + "/own.pem"), privateKey: ($dir + "/own.key"),
            httpPort: $http, tlsPort: $https, ocspResponderURL: ""
        }}' >"$pebble_dir/config.json"
    show "pebble -config $pebble_dir/config.json -dnsserver 127.0.0.1:$dns -strict"
    # Otherwise it waits for up to 15 s before it looks, to be like an authority far away.
    PEBBLE_VA_NOSLEEP=1 setsid pebble -config "$pebble_dir/config.json" \
        -dnsserver "127.0.0.1:$dns" -strict >"$pebble_dir/log" 2>&1 </dev/null &
    pebble=$!
    wait_until 20 pebble_answers || fail "Pebble does not answer: $(tail -n 3 "$pebble_dir/log")"
    ok "Pebble is there; it asks Weir's own name server"
}

pebble_answers() {
    curl -fsS --max-time 2 -o /dev/null --cacert "$pebble_dir/own.pem" "$pebble_origin/dir" 2>/dev/null
}

# The next demo begins with the local authority again.
end_acme() {
    [[ -n $pebble ]] || return 0
    WEIR_STATE_DIR=$STATE "$weir" cert issuer rm "$ISSUER"
    WEIR_STATE_DIR=$STATE "$weir" cert delete "$BASE"
    kill "$pebble"
    wait "$pebble"
    rm -rf "$pebble_dir"
    pebble=
} >/dev/null 2>&1
