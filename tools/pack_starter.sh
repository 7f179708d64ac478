#!/usr/bin/env bash
# Makes models/starter.safetensors, the packed file inside the binary, from the checkpoint in models/starter. tests/engine/golden_starter.rs
# holds the file against the checkpoint, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
# Without the feature `starter`, which embeds the very file that is made here.
cargo run --release -p trivec-cli --no-default-features --features cli -- pack --weights int4 --output models/starter.safetensors models/starter
