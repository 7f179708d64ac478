#!/usr/bin/env bash
# release.sh OUT [TARGET...]: static programs for x86-64 and AArch64 Linux, which need no library and no other file, with checksums and a list of what is in
# them (CycloneDX). Each is tried in an empty folder as its root, the one of the other architecture under qemu: both must print the same bytes.
#
# TRIVEC_FEATURES: those of trivec-cli ("cli hub search serve starter" unless others are named; "cli" is the smallest). TRIVEC_PROFILE: cargo's profile
# (dist). TRIVEC_PYTHON_TOOLS: an environment for cargo-zigbuild and Zig, which come from PyPI.
#
# Rust's standard library for musl is the installed one (rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl), or is built from the
# sources that tools/setup_aarch64.sh brings (AARCH64_PREFIX).
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2p "$0"; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd); shift
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)
features=${TRIVEC_FEATURES:-cli hub search serve starter} profile=${TRIVEC_PROFILE:-dist}
tools=${TRIVEC_PYTHON_TOOLS:-$PWD/target/python-tools}
prefix=${AARCH64_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/trivec-aarch64}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/python" -c 'import ziglang' 2>/dev/null && [ -x "$tools/bin/cargo-zigbuild" ] ||
  "$tools/bin/pip" install --quiet --disable-pip-version-check cargo-zigbuild ziglang
export PATH=$tools/bin:$PATH

has_std() { ls "$("$1" --print target-libdir --target "$2")"/libstd-*.rlib >/dev/null 2>&1; }
for target in "${targets[@]}"; do
  options=()
  if ! has_std rustc "$target"; then
    [ -d "$prefix/sysroot/lib/rustlib/src/rust/library" ] || bash tools/setup_aarch64.sh "$prefix"
    # The unstable door of this one compiler, for its own standard library.
    options=(-Zbuild-std=std,panic_unwind)
    export RUSTC=$prefix/bin/rustc RUSTC_BOOTSTRAP=1
  fi
  echo "== $target"
  cargo zigbuild --locked --profile "$profile" --target "$target" -p trivec-cli --no-default-features --features "$features" "${options[@]}"
  unset RUSTC RUSTC_BOOTSTRAP
  folder=$profile
  [ "$profile" != dev ] || folder=debug
  install -m 755 "${CARGO_TARGET_DIR:-target}/$target/$folder/trivec" "$out/trivec-$version-$target"
done

# ---- each in an empty root ----------------------------------------------------------------------------------------------------------
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp -r tests/data/models/f32-h64 "$root/model"
rm -f "$out/expected.jsonl"
for target in "${targets[@]}"; do
  program=$out/trivec-$version-$target
  if readelf -d "$program" 2>/dev/null | grep -q NEEDED; then
    echo "$program needs libraries:"; readelf -d "$program"; exit 1
  fi
  cp "$program" "$root/trivec"
  # Numbers of all modes, which must not depend on the architecture.
  arguments=(embed --model /model --modes all --threads 2 "the cat sat on the mat" "" "天気がいい")
  case $target in
    "$(uname -m)"-*)
      [ "$(id -u)" = 0 ] || { echo "NOT RUN: an empty root needs root"; continue; }
      chroot "$root" /trivec "${arguments[@]}" >"$root.printed"
      chroot "$root" /trivec --version
      ;;
    aarch64-*)
      [ -x "$prefix/bin/run-aarch64" ] || { echo "NOT RUN: $target: no emulator in $prefix"; continue; }
      (cd "$root" && "$prefix/bin/run-aarch64" ./trivec "${arguments[@]/#\/model/model}" >"$root.printed")
      ;;
    *) echo "NOT RUN: $target: no machine for it here"; continue ;;
  esac
  [ -s "$root.printed" ] && [ "$(wc -l <"$root.printed")" = 3 ]
  if [ -e "$out/expected.jsonl" ]; then
    cmp "$out/expected.jsonl" "$root.printed" || { echo "$target prints other numbers"; exit 1; }
    echo "the same bytes as the first"
  else
    cp "$root.printed" "$out/expected.jsonl"
  fi
  rm -f "$root.printed"
done
rm -f "$out/expected.jsonl"

# ---- what is in them, and what they are ---------------------------------------------------------------------------------------------------
cargo metadata --format-version 1 --locked --manifest-path crates/cli/Cargo.toml --no-default-features --features "$features" \
  --filter-platform "${targets[0]}" | python3 packaging/sbom.py "$version" >"$out/trivec-$version.cdx.json"
(cd "$out" && sha256sum "trivec-$version"* >SHA256SUMS)
ls -l "$out" | awk 'NR > 1 { print $NF, $5, "bytes" }'
