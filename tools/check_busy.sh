#!/usr/bin/env bash
# The whole test suite on a busy machine: bash tools/check_busy.sh [options of cargo test, such as --release]
# Three times beside `stress-ng --cpu 4`, then without it on one thread and on sixteen. Needs stress-ng (Debian: stress-ng). It takes
# hours where the suite takes long, and ends at the first run that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v stress-ng > /dev/null || { echo "check_busy: stress-ng is needed (Debian: apt-get install stress-ng)" >&2; exit 2; }

stress=
stop_stress() {
    if [ -n "$stress" ]; then
        kill "$stress" 2> /dev/null || true
        wait "$stress" 2> /dev/null || true
        stress=
    fi
}
trap stop_stress EXIT

suite() { # NAME OPTIONS…, of the test programs
    local begin=$SECONDS
    echo "check_busy: $1"
    cargo test --workspace "${cargo_options[@]}" -- "${@:2}"
    echo "check_busy: $1: green in $((SECONDS - begin)) s"
}

cargo_options=("$@")
# Built first: compiling is not what is tested.
cargo test --workspace "${cargo_options[@]}" --no-run
stress-ng --quiet --cpu 4 &
stress=$!
for run in 1 2 3; do suite "run $run of 3 beside stress-ng --cpu 4"; done
stop_stress
suite "one thread" --test-threads 1
suite "sixteen threads" --test-threads 16
