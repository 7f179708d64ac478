#!/usr/bin/env bash
# install.sh PREFIX: builds the library and installs it with its headers, for pkg-config and CMake.
#
# TRIVEC_PROFILE: cargo's profile (dist: the fastest; small: the smallest, where a mistake inside the library ends the process; release).
# TRIVEC_FEATURES=starter: with the small model inside. DESTDIR is put before PREFIX as files are written, not into them.
set -euo pipefail
[ $# = 1 ] || { sed -n 2p "$0"; exit 2; }
prefix=$1 to=${DESTDIR:-}$1
cd "$(dirname "$0")"
profile=${TRIVEC_PROFILE:-dist}
cargo build --locked --profile "$profile" -p trivec-c ${TRIVEC_FEATURES:+--features "$TRIVEC_FEATURES"}
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
version=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print([p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "trivec-c"][0])')
built=$target/$profile
mkdir -p "$to"/{include,lib/pkgconfig,lib/cmake/trivec}
install -m 644 include/trivec.h include/trivec.hpp "$to/include/"
install -m 755 "$built/libtrivec_c.so" "$to/lib/libtrivec.so.1"
ln -sf libtrivec.so.1 "$to/lib/libtrivec.so"
install -m 644 "$built/libtrivec_c.a" "$to/lib/libtrivec.a"
sed "s#@prefix@#$prefix#; s#@version@#$version#" trivec.pc.in >"$to/lib/pkgconfig/trivec.pc"
install -m 644 cmake/*.cmake "$to/lib/cmake/trivec/"
