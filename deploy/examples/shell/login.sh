#!/usr/bin/env bash
# Logs in by signing a nonce, so that the API key never leaves this machine, with nothing but bash, OpenSSL 3 and curl.
#
#   export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
#   ./login.sh
#
# With a key of OpenSSL's own, whose public half an operator has registered:
#
#   openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
#   control-plane api-key create --name mine --agent data_analyst --public-key-file public.pem    # prints apk_…
#   export AUTHGUARDIAN_API_KEY_ID=apk_… AUTHGUARDIAN_PRIVATE_KEY_FILE=key.pem
#
# For an edge with a certificate of its own, AUTHGUARDIAN_EDGE_CA_FILE is who vouches for it.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The seed of an API key as hexadecimal digits: 43 digits to the base 62, carried through 32 bytes.
seed() {
    local digits=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz
    local text="$1" bytes=() i j carry before
    for ((i = 0; i < 32; i++)); do bytes[i]=0; done
    for ((i = 0; i < ${#text}; i++)); do
        before="${digits%%"${text:i:1}"*}"
        carry=${#before}
        for ((j = 31; j >= 0; j--)); do
            carry=$((bytes[j] * 62 + carry))
            bytes[j]=$((carry & 255))
            carry=$((carry >> 8))
        done
    done
    printf '%02x' "${bytes[@]}"
}

# Hexadecimal digits as the bytes that they stand for.
raw() {
    # shellcheck disable=SC2059 # the digits are the format
    printf "$(sed 's/../\\x&/g' <<<"$1")"
}

# The private key as PEM; it goes to openssl through a pipe, and into no file.
private_key() {
    if [ -n "${AUTHGUARDIAN_PRIVATE_KEY_FILE:-}" ]; then
        cat "$AUTHGUARDIAN_PRIVATE_KEY_FILE"
    else # PKCS #8 of an Ed25519 key is these bytes and the seed (RFC 8410)
        raw "302e020100300506032b657004220420$(seed "${AUTHGUARDIAN_API_KEY##*_}")" | openssl pkey -inform DER
    fi
}

# Sends a request to a path of the edge; what else curl needs follows. Credentials and bodies are read from files, since
# everybody on this machine can read the arguments of a program.
edge() {
    local path="$1" tls=()
    [ -z "${AUTHGUARDIAN_EDGE_CA_FILE:-}" ] || tls=(--cacert "$AUTHGUARDIAN_EDGE_CA_FILE")
    curl --silent --show-error --fail-with-body --noproxy '*' "${tls[@]}" "$AUTHGUARDIAN_EDGE_URL$path" "${@:2}"
}

# The same with the session as its credential, and a body, if there is one.
with_session() {
    if [ -n "$2" ]; then
        edge "$1" -H @<(printf 'Authorization: Bearer %s' "$token") "${@:3}" \
            -H 'Content-Type: application/json' --data @<(printf '%s' "$2")
    else
        edge "$1" -H @<(printf 'Authorization: Bearer %s' "$token") "${@:3}"
    fi
}

# The value of a name in JSON; with jq: `jq -r .name`.
value() {
    sed -E "s/.*\"$1\": ?\"?([^\",}]*).*/\1/"
}

say() {
    printf '%-28s %s\n' "$1" "$2"
}

if [ -n "${AUTHGUARDIAN_PRIVATE_KEY_FILE:-}" ]; then
    key_id="$AUTHGUARDIAN_API_KEY_ID"
else
    key_id="apk_$(cut -d _ -f 2 <<<"$AUTHGUARDIAN_API_KEY")"
fi
nonce="$(edge /auth/challenge -H 'Content-Type: application/json' --data "{\"api_key_id\": \"$key_id\"}" | value nonce)"

# What is signed is put together here: a signature is given for a login, and for nothing else.
{ printf 'authguardian-login-v1\0' && base64 -d <<<"$nonce"; } >"$work/message"
signature="$(openssl pkeyutl -sign -rawin -in "$work/message" -inkey <(private_key) | base64 -w 0)"
login="{\"api_key_id\": \"$key_id\", \"nonce\": \"$nonce\", \"signature\": \"$signature\"}"
session="$(edge /auth/session -H 'Content-Type: application/json' --data @<(printf '%s' "$login"))"
token="$(value session_token <<<"$session")"
say "logged in as:" "$(value session_id <<<"$session")"
say "from the zone:" "$(value zone <<<"$session")"

# A session lives for 15 minutes; renewed in time, for 12 hours.
token="$(with_session /auth/session/renew '' -X POST | value session_token)"

ask='{"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "Q4 analysis task"}'
granted="$(with_session /mcp/tools/request_permission "$ask")"
say "asked for a permission:" "$(value decision <<<"$granted")"
grant="{\"token\": \"$(value token <<<"$granted")\"}"
say "given back:" "$(with_session /mcp/tools/revoke_token "$grant" | value revoked)"

with_session /auth/session '' -X DELETE
say "logged out" ""
