#!/usr/bin/env bash
# Looks for vector registers that the compiler keeps on the stack in the inner loops of the kernels, in the code that ships: the library
# that the release build links. AArch64 is cross-compiled where tools/check_emulated.sh has set up a toolchain; else a line "NOT RUN: ..."
# says so, which TRIVEC_REQUIRE_EMULATION=1 makes a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
own=tools/check_spills
prefix=${AARCH64_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/trivec-aarch64}
target=${CARGO_TARGET_DIR:-target}
listings=$(mktemp -d)
trap 'rm -r "$listings"' EXIT

if [ "$(uname -m)" = x86_64 ]; then
  # The judge itself: it must find the spills of a tile that is too large, and none where the registers suffice.
  for fixture in too_large fits; do
    as "$own/fixtures/$fixture.s" -o "$listings/$fixture.o"
    objdump -d -C --no-show-raw-insn "$listings/$fixture.o" >"$listings/$fixture.s"
  done
  if python3 $own/judge.py "$listings/too_large.s" >"$listings/said"; then
    cat "$listings/said"
    echo "the judge finds no spills in $own/fixtures/too_large.s"
    exit 1
  fi
  grep -q 'FAILED: linear_i8 on AVX_VNNI: 30 spills' "$listings/said"
  python3 $own/judge.py "$listings/fits.s" >/dev/null
fi
# The same of AArch64, from a listing: a machine of another kind has no assembler for it.
if python3 $own/judge.py $own/fixtures/too_large_arm.listing >"$listings/said"; then
  cat "$listings/said"
  echo "the judge finds no spills in $own/fixtures/too_large_arm.listing"
  exit 1
fi
grep -q 'FAILED: linear_f16 on NEON: 16 spills' "$listings/said"

cargo build --release -p trivec-kernels
objdump -d -C --no-show-raw-insn "$target/release/libtrivec_kernels.rlib" >"$listings/native.s"
listed=("$listings/native.s")

arm=aarch64-unknown-linux-gnu
if [ -x "$prefix/bin/rustc" ] && [ -x "$prefix/bin/aarch64-linux-gnu-objdump" ]; then
  RUSTC=$prefix/bin/rustc CARGO_TARGET_DIR=$target/emulated cargo build --release --target $arm -p trivec-kernels
  "$prefix/bin/aarch64-linux-gnu-objdump" -d -C --no-show-raw-insn "$target/emulated/$arm/release/libtrivec_kernels.rlib" >"$listings/arm.s"
  listed+=("$listings/arm.s")
elif [ "$(uname -m)" != aarch64 ]; then
  echo "NOT RUN: the kernels of AArch64, for want of a toolchain in $prefix (tools/setup_aarch64.sh)"
  [ -z "${TRIVEC_REQUIRE_EMULATION:-}" ]
fi
python3 $own/judge.py "${listed[@]}"
