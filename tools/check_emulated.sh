#!/usr/bin/env bash
# The kernels' tests on CPUs that this machine does not have: NEON, AVX2 without AVX-512, and no AVX at all (portable code alone).
#
# Emulators and an AArch64 toolchain are looked for in $AARCH64_PREFIX and set up there (tools/setup_aarch64.sh, about two minutes)
# if they are not there or belong to another rustc. Where that cannot be done, a line "NOT RUN: ..." says so;
# TRIVEC_REQUIRE_EMULATION=1 makes it a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${AARCH64_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/trivec-aarch64}

target=aarch64-unknown-linux-gnu
ready() {
  [ -x "$prefix/bin/run-x86_64" ] && [ -x "$prefix/bin/aarch64-linux-gnu-objdump" ] && [ "$("$prefix/bin/rustc" -vV)" = "$(rustc -vV)" ] &&
    ls "$("$prefix/bin/rustc" --print target-libdir --target $target)"/libstd-*.rlib >/dev/null
}
if ! ready 2>/dev/null; then
  code=0
  said=$(bash tools/setup_aarch64.sh "$prefix") || code=$?
  if [ $code = 3 ]; then
    echo "NOT RUN: tests on emulated CPUs: ${said##*$'\n'}"
    [ -z "${TRIVEC_REQUIRE_EMULATION:-}" ]
    exit
  fi
  echo "$said"
  [ $code = 0 ] || exit $code
fi

# run ISA CPU COMMAND...: the tests must find ISA.
run() {
  local isa=$1 cpu=$2
  shift 2
  printf -- '-- %s on an emulated %s\n' "$isa" "$cpu"
  TRIVEC_REQUIRE_ISA=$isa "$@" test --quiet --release -p trivec-kernels --lib "${tests[@]}"
}
on_aarch64() {
  RUSTC=$prefix/bin/rustc CARGO_BUILD_TARGET=$target CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/emulated \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$prefix/bin/aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$prefix/bin/run-aarch64 AARCH64_QEMU_CPU=$cpu cargo "$@"
}
on_x86() {
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$prefix/bin/run-x86_64 X86_QEMU_CPU=$cpu cargo "$@"
}
# NEON with products of matrices of bytes, with dot products of bytes alone, and with neither. Then AVX2 without AVX-512, and SSE4.2.
tests=(--tests)
run neoni8mm max on_aarch64
run neondot cortex-a76 on_aarch64
run neon cortex-a72 on_aarch64
# Without guard_pages: this qemu touches what AVX2's masked loads and stores leave out, which faults there and on no CPU.
tests=(--test all_isas --test int_kernels --test int4_kernels --test int_attention)
run avx2 max on_x86
run scalar Nehalem on_x86
