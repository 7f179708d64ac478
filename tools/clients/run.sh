#!/usr/bin/env bash
# Real clients (openai, langchain, llama-index, huggingface_hub, cohere, voyageai, litellm, curl) against `trivec serve` with the starter
# and with a reranker, every vector and score beside those of `trivec embed` and `trivec rerank`: bash tools/clients/run.sh [path of trivec [CLIENT…]]
# Needs Python 3.10 or newer and PyPI; the environment is kept in TRIVEC_CLIENTS_VENV (default: beside the temporary files).
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "${1:-target/release/trivec}")
venv=${TRIVEC_CLIENTS_VENV:-${TMPDIR:-/tmp}/trivec-clients-venv}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tools/clients/requirements.txt

work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done; wait 2> /dev/null || true; rm -rf "$work"' EXIT
export TRIVEC_HOME="$work/home"
unset TRIVEC_MODEL TRIVEC_API_KEY TRIVEC_API_KEY_FILE TRIVEC_CONFIG
start() { # NAME MODEL OPTIONS…: starts a service on a free port; its address comes into `address`
    local log="$work/$1.log"
    "$binary" serve --port 0 --model "$2" "${@:3}" 2> "$log" &
    pids+=($!)
    # As long as it lives, however busy the machine is; two minutes at most.
    for _ in $(seq 2400); do
        address=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' "$log")
        if [ -n "$address" ]; then return; fi
        kill -0 "${pids[-1]}" 2> /dev/null || break
        sleep 0.05
    done
    echo "the service did not start:" >&2
    cat "$log" >&2
    exit 1
}
reranker=tests/data/rerankers/reranker-h48
start open starter
open=$address
start reranker "$reranker"
ranks=$address
start keyed starter --api-key of-a-client --max-queue 2500
"$venv/bin/python" tools/clients/check.py "$open" "$address" "$ranks" of-a-client "$binary" "$reranker" "${@:2}"
