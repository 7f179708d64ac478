#!/usr/bin/env bash
# `trivec serve` beside sentence-transformers and FastAPI, on the same weights (the starter, or --model DIR):
#   bash tools/serve_compare/run.sh [--seconds 60] [--clients 1,64] [--model DIR] [--binary target/release/trivec]
# Needs Python 3.10 or newer and PyPI (PyTorch with all it brings: several GB); the environment is kept in TRIVEC_COMPARE_VENV.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${TRIVEC_COMPARE_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/trivec-serve-compare}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tools/serve_compare/requirements.txt
exec "$venv/bin/python" tools/serve_compare/compare.py --binary target/release/trivec --model models/starter "$@"
