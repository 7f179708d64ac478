#!/usr/bin/env bash
# release.sh OUT [TARGET...]: what a release consists of: static programs for x86-64 and AArch64 Linux, which need no library and no other file, wheels
# for both with the program inside, the starter's wheel, checksums, and a list of what is in the programs (CycloneDX).
#
# Each program is tried in an empty folder as its root, that of the other architecture under qemu: both must print the same bytes, which stay
# in OUT/numbers-TARGET.jsonl, so that runs on several machines can be compared, too. Each wheel of this architecture is installed without an index and used.
#
# TRIVEC_FEATURES: those of trivec-cli (all that are on by default unless others are named; "cli" is the smallest). TRIVEC_WHEEL_FEATURES: those of the
# program in the wheels (cli hub). TRIVEC_PROFILE: cargo's profile (dist). TRIVEC_PARTS: "programs wheels" or one of them.
#
# TRIVEC_PYTHON_TOOLS: an environment outside the repository for cargo-zigbuild, Zig and maturin, which come from PyPI. Rust's standard library comes from
# rustup: for *-unknown-linux-musl of programs, for *-unknown-linux-gnu of wheels. Nothing else of the system is needed but Python; where there is no
# qemu-aarch64-static, Debian's package is unpacked beside the tools.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,3p "$0"; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd); shift
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl)
features=${TRIVEC_FEATURES:-cli hub search serve starter train} wheel_features=${TRIVEC_WHEEL_FEATURES:-cli hub}
profile=${TRIVEC_PROFILE:-dist} parts=${TRIVEC_PARTS:-programs wheels}
tools=${TRIVEC_PYTHON_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/trivec-release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
target_dir=${CARGO_TARGET_DIR:-$PWD/target} folder=$profile
[ "$profile" != dev ] || folder=debug
wants() { [[ " $parts " = *" $1 "* ]]; }

[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
for package in cargo-zigbuild "maturin>=1.9,<2" ziglang; do
  "$tools/bin/pip" install --quiet --disable-pip-version-check "$package"
done
export PATH=$tools/bin:$PATH
# The programs do not tell where they were built.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src="
need_std() {
  ls "$(rustc --print target-libdir --target "$1")"/libstd-*.rlib >/dev/null 2>&1 || rustup target add "$1"
}

# As root of this machine, or through sudo where that needs no password.
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
root=$(mktemp -d)
trap '"${as_root[@]}" rm -rf "$root"' EXIT
emulator() {
  local found; found=$(command -v qemu-aarch64-static || true)
  if [ -z "$found" ] && command -v apt-get >/dev/null; then
    mkdir -p "$tools/qemu"
    (cd "$tools/qemu" && { ls ./*.deb || apt-get download qemu-user-static; } && dpkg-deb -x ./*.deb .) >/dev/null 2>&1 || true
    found=$tools/qemu/usr/bin/qemu-aarch64-static
  fi
  [ ! -x "$found" ] || echo "$found"
}
# try TARGET PROGRAM: numbers of all modes, which must not depend on the architecture, of a program that finds nothing but a model.
try() {
  local target=$1 run=(/trivec)
  case $target in
    "$(uname -m)"-*) ;;
    aarch64-*)
      local qemu; qemu=$(emulator)
      [ -n "$qemu" ] || { echo "NOT RUN: $target: there is no qemu-aarch64-static"; return; }
      cp "$qemu" "$root/qemu"; run=(/qemu /trivec)
      ;;
    *) echo "NOT RUN: $target: no machine for it here"; return ;;
  esac
  "${as_root[@]}" true 2>/dev/null || { echo "NOT RUN: $target: an empty root needs root"; return; }
  cp "$2" "$root/trivec"
  "${as_root[@]}" chroot "$root" "${run[@]}" embed --quiet --model /model --modes all --threads 2 \
    "the cat sat on the mat" "" "天気がいい" >"$out/numbers-$target.jsonl"
  [ "$(wc -l <"$out/numbers-$target.jsonl")" = 3 ] || { echo "$target does not embed"; exit 1; }
  "${as_root[@]}" chroot "$root" "${run[@]}" --version
}

if wants programs; then
  cp -r tests/data/models/f32-h64 "$root/model"
  for target in "${targets[@]}"; do
    echo "== $target"
    need_std "$target"
    cargo zigbuild --locked --profile "$profile" --target "$target" -p trivec-cli --no-default-features --features "$features"
    program=$out/trivec-$version-$target
    install -m 755 "$target_dir/$target/$folder/trivec" "$program"
    if readelf -d "$program" 2>/dev/null | grep -q NEEDED; then
      echo "$program needs libraries:"; readelf -d "$program"; exit 1
    fi
    try "$target" "$program"
  done
  for numbers in "$out"/numbers-*.jsonl; do
    cmp "$numbers" "$(ls "$out"/numbers-*.jsonl | head -1)" || { echo "$numbers: other numbers"; exit 1; }
  done
  cargo metadata --format-version 1 --locked --manifest-path crates/cli/Cargo.toml --no-default-features --features "$features" \
    --filter-platform "${targets[0]}" | python3 packaging/sbom.py "$version" >"$out/trivec-$version.cdx.json"
fi

if wants wheels; then
  for target in "${targets[@]}"; do
    gnu=${target/musl/gnu}
    echo "== wheel for $gnu"
    need_std "$gnu"
    rm -rf "$root/wheel"
    maturin build --quiet --locked --profile "$profile" --manifest-path bindings/python/Cargo.toml --target "$gnu" --zig \
      --compatibility manylinux2014 --out "$root/wheel"
    # With the program that fetches and packs models inside; it has no model of its own, which is a package beside it.
    need_std "$target"
    cargo zigbuild --locked --profile "$profile" --target "$target" -p trivec-cli --no-default-features --features "$wheel_features"
    python3 packaging/add_program.py "$root"/wheel/*.whl "$target_dir/$target/$folder/trivec"
    cp "$root"/wheel/*.whl "$out/"
  done
  python3 bindings/python-starter/build.py "$out" >/dev/null
  "$tools/bin/pip" download --quiet --disable-pip-version-check --dest "$root/packages" numpy
  python3 -m venv "$root/venv"
  "$root/venv/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links "$root/packages" --find-links "$out" trivec trivec-starter
  "$root/venv/bin/python" -c 'import trivec; print("wheel:", trivec.__version__, trivec.Model("starter").encode(["a text"]).dense.shape)'
  "$root/venv/bin/python" -m trivec --version
  "$root/venv/bin/trivec" embed --quiet --model tests/data/models/f32-h64 "a text" >/dev/null
fi

(cd "$out" && sha256sum $(ls | grep -v -e SHA256SUMS -e numbers-) >SHA256SUMS)
ls -l "$out" | awk 'NR > 1 { print $NF, $5, "bytes" }'
