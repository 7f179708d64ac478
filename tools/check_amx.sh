#!/usr/bin/env bash
# The kernels' tests with AMX in software (emulate_amx.c), on a CPU that has all that the set "amx" takes but AMX: every instruction raises a
# signal there, whose handler does what the manual says. What the tests then run is the product's own assembly.
#
# A CPU with AMX has to run the tests itself. Where it lacks AVX-512 BF16, or no C compiler is there, a line "NOT RUN: ..." says so;
# TRIVEC_REQUIRE_EMULATION=1 makes it a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
not_run() {
  echo "NOT RUN: tests with AMX in software: $1"
  [ -z "${TRIVEC_REQUIRE_EMULATION:-}" ]
  exit
}
flags=" $(grep -m1 '^flags' /proc/cpuinfo 2>/dev/null || true) "
case $flags in
*" amx_int8 "*)
  echo "this CPU has AMX"
  TRIVEC_REQUIRE_ISA=amx exec cargo test --quiet --release -p trivec-kernels
  ;;
*" avx512_bf16 "*) ;;
*) not_run "this CPU has no AVX-512 BF16" ;;
esac
cc=${CC:-cc}
command -v "$cc" >/dev/null || not_run "there is no C compiler"

target=${CARGO_TARGET_DIR:-$PWD/target}/amx
mkdir -p "$target"
build() { "$cc" -O2 -Wall -Wextra -Werror -ffp-contract=off -fno-strict-aliasing -mfma -shared -fPIC "${@:2}" -o "$target/$1.so" tools/emulate_amx.c; }
build right
build wrong -DWRONG
# run LIBRARY TESTS...: the kernels' tests must find the set.
run() {
  RUSTFLAGS="--cfg trivec_emulated_amx" CARGO_TARGET_DIR=$target TRIVEC_REQUIRE_ISA=amx \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$target/$1.so" \
    cargo test --quiet --release -p trivec-kernels "${@:2}"
}
run right --lib --tests
# Their assertions must fail, and not for want of a build or of the instructions: those of bytes, of int4, and of attention.
for test in int_kernels int4_kernels int_attention; do
  if said=$(run wrong --test $test 2>&1) || ! grep -q '^test result: FAILED' <<<"$said"; then
    printf '%s\nwith wrong products %s does not fail: it has not run AMX\n' "$said" $test >&2
    exit 1
  fi
done
echo "with wrong products they fail, as they must"
