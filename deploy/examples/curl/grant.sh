#!/usr/bin/env bash
# The whole life of a grant with nothing but curl: over REST, and at the end one call of MCP.
#
#   export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
#   ./grant.sh
set -euo pipefail

ask='{"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "Q4 analysis task"}'

# Sends a request to a path of the edge; what else curl needs follows the path.
edge() {
    curl --silent --show-error --fail-with-body --noproxy '*' "$AUTHGUARDIAN_EDGE_URL$1" \
        -H "Authorization: Bearer $AUTHGUARDIAN_API_KEY" -H 'Content-Type: application/json' "${@:2}"
}

tool() {
    edge "/mcp/tools/$1" --data "$2"
}

# The value of a name in JSON; with jq: `jq -r .name`.
value() {
    sed -E "s/.*\"$1\": ?\"?([^\",}]*).*/\1/"
}

say() {
    printf '%-28s %s\n' "$1" "$2"
}

# A permission: the token goes with each request to the resource, as `Authorization: Bearer …`.
granted="$(tool request_permission "$ask")"
say "asked for a permission:" "$(value decision <<<"$granted")"
token="$(value token <<<"$granted")" # empty where it was denied, and `reasons` say why
grant_id="$(value grant_id <<<"$granted")"

# The owner of the resource checks the token.
check="{\"token\": \"$token\", \"agent_id\": \"data_analyst\", \"resource_type\": \"SAP_API\"}"
say "the token is valid:" "$(tool validate_token "$check" | value valid)"

# The agent looks at its grant, and at all that it has.
status="$(tool permission_status "{\"grant_id\": \"$grant_id\"}")"
say "it ends at:" "$(value expires_at <<<"$status")"
say "active grants:" "$(edge '/mcp/resources/grants://active')"

# A task that takes longer: another token of the same grant.
renewed="$(tool renew_permission "{\"token\": \"$token\", \"ttl_seconds\": 600}")"
say "renewed, it ends at:" "$(value expires_at <<<"$renewed")"

# Done: no token of this grant is good any more.
say "given back:" "$(tool revoke_token "{\"token\": \"$token\"}" | value revoked)"
refused="$(tool validate_token "$check")"
say "the token is valid:" "$(value valid <<<"$refused") ($(value reason <<<"$refused"))"

# MCP, revision 2026-07-28: no session, so that a call is one request; headers repeat what the body says.
call="{
  \"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\",
  \"params\": {
    \"name\": \"request_permission\", \"arguments\": $ask,
    \"_meta\": {
      \"io.modelcontextprotocol/protocolVersion\": \"2026-07-28\",
      \"io.modelcontextprotocol/clientInfo\": {\"name\": \"curl\", \"version\": \"1\"},
      \"io.modelcontextprotocol/clientCapabilities\": {}
    }
  }
}"
answer="$(edge /mcp --data "$call" -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: request_permission')"
say "asked over MCP:" "$answer"
