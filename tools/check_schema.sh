#!/usr/bin/env bash
# The service against its own description, by schemathesis (PyPI): bash tools/check_schema.sh [path of trivec] [options of schemathesis]
# Valid and invalid requests are made up from /openapi.json; every answer must be one that is described there, with the status that its
# request deserves. Twice: with the starter, and with a reranker for the routes that only a reranker has.
# The environment is kept in TRIVEC_SCHEMA_VENV (default: beside the temporary files).
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/release/trivec}")
shift || true
venv=${TRIVEC_SCHEMA_VENV:-${TMPDIR:-/tmp}/trivec-schema-venv}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5

work=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2> /dev/null || true; wait 2> /dev/null || true; fi; rm -rf "$work"' EXIT
export TRIVEC_HOME="$work/home"
unset TRIVEC_MODEL TRIVEC_API_KEY TRIVEC_API_KEY_FILE TRIVEC_CONFIG
root=$PWD
check() { # MODEL OPTIONS…
    local log="$work/log"
    "$binary" serve --port 0 --log-level warn --model "$1" 2> "$log" &
    pid=$!
    local address=
    # As long as it lives, however busy the machine is; two minutes at most.
    for _ in $(seq 2400); do
        address=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' "$log")
        if [ -n "$address" ] || ! kill -0 "$pid" 2> /dev/null; then break; fi
        sleep 0.05
    done
    if [ -z "$address" ]; then cat "$log" >&2; exit 1; fi
    # Its data base of examples stays out of the sources; a fixed seed, so that a run can be repeated.
    (cd "$work" && "$venv/bin/st" --config-file "$root/tools/schemathesis.toml" run "$address/openapi.json" \
        --phases examples,coverage,fuzzing --seed 1 --max-examples 30 --continue-on-failure --no-color "${@:2}")
    kill "$pid"
    wait "$pid"
    pid=
}
check starter --exclude-path /rerank --exclude-path /v1/rerank --exclude-path /v2/rerank "$@"
check tests/data/rerankers/reranker-h48 --include-path /rerank --include-path /v1/rerank --include-path /v2/rerank "$@"
