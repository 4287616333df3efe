#!/bin/sh
# Asks a served host whatever its own description permits, and what it does not: no answer may be a failure of the host's, or another
# than the one that is described. SCHEMATHESIS_EXAMPLES says how many requests there are for each operation.
set -eu
cd "$(dirname "$0")/.."
venv=target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet install 'schemathesis>=4,<5'
fi
folder=$(mktemp -d)
trap 'exec 3>&-; rm -rf "$folder"' EXIT
mkfifo "$folder/in"
target/debug/served "$folder" <"$folder/in" >"$folder/out" &
exec 3>"$folder/in"
while ! [ -s "$folder/out" ]; do
    kill -0 $! 2>/dev/null || { echo "the host did not start" >&2; exit 1; }
    sleep 0.1
done
read -r url key <"$folder/out"
# Whoever ends its own session, or removes its own principal, asks nothing more: those are tested elsewhere.
"$venv/bin/schemathesis" --config-file scripts/fuzz-api.toml run "$url/v1/openapi.json" \
    --header "Authorization: Bearer $key" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance \
    --max-examples "${SCHEMATHESIS_EXAMPLES:-50}" --seed 1 --workers 2 --no-color \
    --exclude-operation-id revoke-key-of-service-account --exclude-operation-id remove-service-account \
    --exclude-operation-id change-service-account --exclude-operation-id delete-tenant \
    ${SCHEMATHESIS_MORE:-}
