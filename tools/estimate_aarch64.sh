#!/usr/bin/env bash
# Estimates, by llvm-mca, how fast the inner loops of int8 and int4 products would run on AArch64 cores, and on a core with AVX-VNNI: for
# processors that nobody here has. They are no measurements. Needs the toolchain of tools/setup_aarch64.sh (AARCH64_PREFIX) and an llvm-mca
# of version 17 or newer (LLVM_MCA, or on the path); older ones do not know the cores. On Debian the package llvm-19 is fetched and
# unpacked into a folder of its own where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}
prefix=${AARCH64_PREFIX:-$cache/trivec-aarch64}
target=${CARGO_TARGET_DIR:-target}
arm=aarch64-unknown-linux-gnu
listings=$(mktemp -d)
trap 'rm -r "$listings"' EXIT

is_new() { "$1" --version 2>/dev/null | awk '/LLVM version/ { split($NF, v, "."); found = v[1] >= 17 } END { exit !found }'; }

mca=${LLVM_MCA:-}
for name in llvm-mca llvm-mca-{25..17}; do
  [ -n "$mca" ] || { command -v "$name" >/dev/null && is_new "$name" && mca=$name; } || true
done
if [ -z "$mca" ]; then
  own=$cache/trivec-llvm
  mca=$own/llvm-mca
  if [ ! -x "$mca" ]; then
    mkdir -p "$own/packages"
    (
      cd "$own/packages"
      apt-get download -q llvm-19 libllvm19 >&2 || { echo "there is no llvm-mca 17 or newer, and no package llvm-19; set LLVM_MCA"; exit 3; }
      for package in *.deb; do dpkg-deb -x "$package" ..; done
    )
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' \
      "$own/usr/lib/x86_64-linux-gnu:$own/usr/lib/llvm-19/lib" "$own/usr/lib/llvm-19/bin/llvm-mca" >"$mca"
    chmod +x "$mca"
  fi
fi
is_new "$mca" || { echo "$mca does not run, or is older than version 17"; exit 3; }

if [ -x "$prefix/bin/rustc" ]; then
  RUSTC=$prefix/bin/rustc CARGO_TARGET_DIR=$target/emulated cargo build --release --target $arm -p trivec-kernels
  "$prefix/bin/aarch64-linux-gnu-objdump" -d -C --no-show-raw-insn "$target/emulated/$arm/release/libtrivec_kernels.rlib" >"$listings/arm.s"
  # Neoverse N1 is the server's form of Cortex-A76, and llvm has no model of the latter; it takes an older Apple core for the M1.
  python3 tools/estimate_loops.py "$mca" "$listings/arm.s" cortex-a55 neoverse-n1 neoverse-n2 neoverse-v1 neoverse-v2 apple-m1
else
  echo "NOT RUN: the kernels of AArch64, for want of a toolchain in $prefix (tools/setup_aarch64.sh)"
fi
if [ "$(uname -m)" = x86_64 ]; then
  cargo build --release -p trivec-kernels
  objdump -d -C --no-show-raw-insn "$target/release/libtrivec_kernels.rlib" >"$listings/x86.s"
  echo
  # The model is that of the large cores of Alder Lake; llvm has none of the small ones, which are all that an N100 has.
  python3 tools/estimate_loops.py "$mca" "$listings/x86.s" alderlake
fi
