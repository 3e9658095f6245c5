#!/usr/bin/env bash
# A counter that many processes share, with nothing but curl: each reads it, and writes one more only where nobody has
# written in between.
#
#   export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
#   ./counter.sh 10
set -euo pipefail

# Calls a tool: its answer, a refusal as well.
tool() {
    curl --silent --show-error --noproxy '*' "$AUTHGUARDIAN_EDGE_URL/mcp/tools/$1" \
        -H "Authorization: Bearer $AUTHGUARDIAN_API_KEY" -H 'Content-Type: application/json' --data "$2"
}

# The value of a name in JSON; with jq: `jq -r .name`.
value() {
    sed -E "s/.*\"$1\": ?\"?([^\",}]*).*/\1/"
}

key='"board": "strong", "key": "examples/counter"'
lost=0
for ((done = 0; done < ${1:-1}; )); do
    read="$(tool blackboard_read "{$key}")"
    case "$read" in
        *'"KEY_NOT_FOUND"'*) count=0 revision=0 ;; # 0 as a revision: only where there is no key
        *'"revision"'*) count="$(value value <<<"$read")" revision="$(value revision <<<"$read")" ;;
        *) echo "$read" >&2 && exit 1 ;;
    esac
    written="$(tool blackboard_write "{$key, \"value\": $((count + 1)), \"if_revision\": $revision}")"
    case "$written" in
        *'"REVISION_CONFLICT"'*) lost=$((lost + 1)) ;; # somebody was faster: read again
        *'"previous_revision"'*) done=$((done + 1)) ;;
        *) echo "$written" >&2 && exit 1 ;;
    esac
done
echo "counted to $(tool blackboard_read "{$key}" | value value), $lost attempts lost to others"
