#!/usr/bin/env bash
# What the bindings add to the engine's calls. run.sh build: makes the wheel, the C library and the programs in target/bindings-cost.
# run.sh measure: measures them in turn, some three minutes on an idle machine, and prints JSON.
#
# TRIVEC_PROFILE (dist) is cargo's profile, TRIVEC_PYTHON_TOOLS an environment for maturin, as in tools/check_python.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${TRIVEC_COST_DIR:-$PWD/target/bindings-cost}
profile=${TRIVEC_PROFILE:-dist}
tools=${TRIVEC_PYTHON_TOOLS:-$PWD/target/python-tools}
case ${1:-} in
  build)
    mkdir -p "$out"
    [ -x "$tools/bin/maturin" ] || { python3 -m venv "$tools"; "$tools/bin/pip" install --quiet --disable-pip-version-check "maturin>=1.9,<2"; }
    TRIVEC_PROFILE=$profile bash bindings/c/install.sh "$out/usr"
    cargo build --locked --profile "$profile" -p trivec-c --example calls
    cp "${CARGO_TARGET_DIR:-target}/$profile/examples/calls" "$out/calls-rust"
    cc -std=c11 -O2 -Wall -Wextra -Werror bindings/c/examples/calls.c -I "$out/usr/include" -L "$out/usr/lib" -ltrivec -Wl,-rpath,"$out/usr/lib" -o "$out/calls-c"
    rm -rf "$out/wheels" "$out/venv"
    "$tools/bin/maturin" build --quiet --locked --profile "$profile" --manifest-path bindings/python/Cargo.toml --interpreter python3 \
      --compatibility linux --out "$out/wheels"
    python3 -m venv "$out/venv"
    "$out/venv/bin/pip" install --quiet --disable-pip-version-check numpy "$out"/wheels/*.whl
    ;;
  measure) "$out/venv/bin/python" tools/bindings_cost/measure.py "$out" ;;
  *) sed -n 2,5p "$0"; exit 2 ;;
esac
