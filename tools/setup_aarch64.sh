#!/usr/bin/env bash
# setup_aarch64.sh PREFIX: what it takes to build for AArch64 and to run under emulated CPUs, on an x86-64 Debian.
#
# Into PREFIX go a cross linker and C library, qemu's user emulators, and Rust's standard library for AArch64, built once from
# the Debian source package of the very rustc that is on the path (so that both architectures are tested with one compiler).
# Nothing outside PREFIX is written: packages are fetched with an apt state of its own and unpacked, not installed.
# Exit code 3: this machine cannot have it; the last line says why.
#
#   PREFIX/bin/rustc                       this rustc, with that standard library
#   PREFIX/bin/aarch64-linux-gnu-gcc       the linker
#   PREFIX/bin/aarch64-linux-gnu-objdump   the disassembler
#   PREFIX/bin/run-aarch64 PROGRAM ...     on the CPU that AARCH64_QEMU_CPU names (max)
#   PREFIX/bin/run-x86_64 PROGRAM ...      on the CPU that X86_QEMU_CPU names (max: AVX2, no AVX-512)
set -euo pipefail
export LC_ALL=C
impossible() { echo "$*"; exit 3; }

[ $# = 1 ] || { sed -n 2p "$0"; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
target=aarch64-unknown-linux-gnu
mark=$prefix/.made-by-trivec
if [ -n "$(ls -A "$prefix")" ] && [ ! -e "$mark" ]; then
  echo "$prefix is in use by something else" >&2
  exit 1
fi
[ "$(uname -m)" = x86_64 ] || impossible "this is no x86-64 machine"
. /etc/os-release 2>/dev/null || true
[ "${ID:-}" = debian ] && [ -n "${VERSION_CODENAME:-}" ] || impossible "this is no Debian release"
for tool in apt-get apt-cache dpkg-deb rustc cargo; do
  command -v $tool >/dev/null || impossible "there is no $tool"
done
rm -rf "${prefix:?}"/*
touch "$mark"
state=$prefix/apt root=$prefix/root bin=$prefix/bin
mkdir -p "$state"/{sources,lists/partial,cache/archives/partial,sources-of-rust} "$root" "$bin"

# ---- apt with its own lists, cache and status -------------------------------------------------------------------------------
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$VERSION_CODENAME //p" | head -1) || true
[ -n "$mirror" ] || impossible "apt has no source of $VERSION_CODENAME"
add_suites() {
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: amd64\nSigned-By: %s\n' \
    "$mirror" "$1" /usr/share/keyrings/debian-archive-keyring.gpg >"$state/sources/$2.sources"
}
# Packages of the toolchain that the machine has already are to be fetched all the same.
awk 'BEGIN { RS = ""; ORS = "\n\n" } !/^Package: [^\n]*(aarch64-linux-gnu|arm64-cross|-cross-base)/' /var/lib/dpkg/status >"$state/status"
cat >"$state/apt.conf" <<END
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$state/sources";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$state";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
Acquire::Languages "none";
END
quietly() { "$@" >"$state/log" 2>&1 || { tail -20 "$state/log" >&2; return 1; }; }
update() { quietly apt-get -c "$state/apt.conf" update; }
add_suites "$VERSION_CODENAME" base
update || impossible "no package lists could be fetched (no network?)"

# ---- the linker, the C library, the emulators ---------------------------------------------------------------------------------
quietly apt-get -c "$state/apt.conf" install -y --download-only --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross
for package in "$state"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar x -C "$root" --exclude=./usr/share --exclude=./etc
done
(cd "$state" && quietly apt-get -c apt.conf download qemu-user-static)
dpkg-deb --fsys-tarfile "$state"/qemu-user-static_*.deb | tar x -C "$root" ./usr/bin/qemu-aarch64-static ./usr/bin/qemu-x86_64-static
# The C library's linker scripts name absolute paths; without them the linker searches its own folders.
for script in "$root"/usr/aarch64-linux-gnu/lib/*.so; do
  if [ ! -L "$script" ] && head -c 200 "$script" | grep -aq 'GNU ld script'; then
    sed -i 's#/usr/aarch64-linux-gnu/lib/##g' "$script"
  fi
done
wrapper() {
  { echo '#!/bin/sh'; cat; } >"$bin/$1"
  chmod +x "$bin/$1"
}
for tool in gcc objdump; do
  wrapper aarch64-linux-gnu-$tool <<END
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu exec $root/usr/bin/aarch64-linux-gnu-$tool "\$@"
END
done
wrapper run-aarch64 <<END
exec $root/usr/bin/qemu-aarch64-static -cpu "\${AARCH64_QEMU_CPU:-max}" -L $root/usr/aarch64-linux-gnu "\$@"
END
wrapper run-x86_64 <<END
exec $root/usr/bin/qemu-x86_64-static -cpu "\${X86_QEMU_CPU:-max}" "\$@"
END

# ---- Rust's standard library ----------------------------------------------------------------------------------------------------
compiler=$(rustc --print sysroot)
if [ -d "$compiler/lib/rustlib/$target/lib" ]; then
  ln -s "$compiler/bin/rustc" "$bin/rustc"
else
  release=$(rustc -vV | sed -n 's/^release: //p')
  source=
  for suite in "$VERSION_CODENAME-backports" trixie-backports sid; do
    add_suites $suite rust
    update || true
    version=$(apt-cache -c "$state/apt.conf" madison rust-src | awk -v r="$release" 'index($3, r "+") == 1 { print $3; exit }')
    if [ -n "$version" ]; then
      (cd "$state/sources-of-rust" && quietly apt-get -c ../apt.conf download "rust-src=$version")
      dpkg-deb --fsys-tarfile "$state"/sources-of-rust/*.deb | tar x -C "$root" --wildcards './usr/src/*/library/*'
      source=$(echo "$root"/usr/src/*/library)
      break
    fi
  done
  [ -n "$source" ] || impossible "Debian has no rust-src $release, and rustc has no $target (rustup target add $target)"

  # A second sysroot: the compiler's own files by links, with room for another architecture.
  sysroot=$prefix/sysroot
  mkdir -p "$sysroot/lib/rustlib/$target/lib" "$sysroot/lib/rustlib/src/rust"
  for file in "$compiler"/lib/*; do
    [ "${file##*/}" = rustlib ] || ln -s "$file" "$sysroot/lib/"
  done
  ln -s "$compiler/bin" "$sysroot/bin"
  ln -s "$compiler/lib/rustlib/x86_64-unknown-linux-gnu" "$sysroot/lib/rustlib/"
  ln -s "$source" "$sysroot/lib/rustlib/src/rust/library"
  wrapper rustc <<END
exec $compiler/bin/rustc --sysroot $sysroot "\$@"
END
  build=$prefix/build
  mkdir -p "$build/src"
  echo '#![no_std]' >"$build/src/lib.rs"
  printf '[package]\nname = "nothing"\nedition = "2024"\n[workspace]\n[profile.release]\nlto = false\n' >"$build/Cargo.toml"
  (
    cd "$build"
    # `-Zbuild-std` needs the unstable door of this one compiler; nothing else is built through it.
    export RUSTC=$bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$build/target RUSTFLAGS=-Cembed-bitcode=yes
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$bin/aarch64-linux-gnu-gcc
    quietly cargo build --release --target $target -Zbuild-std=std,panic_abort,test,proc_macro
  )
  rm "$build/target/$target/release/deps"/libnothing-*
  cp "$build/target/$target/release/deps"/*.rlib "$sysroot/lib/rustlib/$target/lib/"
fi
rm -rf "$state" "$prefix/build"
echo "ready: $(rustc -V), $("$bin/run-aarch64" --version | head -1), $(du -sm "$prefix" | cut -f1) MB in $prefix"
