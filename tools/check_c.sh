#!/usr/bin/env bash
# The C interface as a program sees it: what the library exports, the examples in C and C++ compiled without a warning and run plainly, under
# AddressSanitizer and under valgrind, linked to the shared and to the static library, through pkg-config and (where there is one) CMake.
#
# Needs a C and a C++ compiler and valgrind; as root on Debian the latter is installed. Go and Zig are tried where they are on the path.
# CARGO_TARGET_DIR and TRIVEC_PROFILE (release) are cargo's.
set -euo pipefail
cd "$(dirname "$0")/.."
found() { command -v "$1" >/dev/null; }
if ! found valgrind && [ "$(id -u)" = 0 ] && found apt-get; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind >/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TRIVEC_PROFILE=${TRIVEC_PROFILE:-release} bash bindings/c/install.sh "$work/usr"
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig LD_LIBRARY_PATH=$work/usr/lib
lib=$work/usr/lib/libtrivec.so.1 model=tests/data/models/f32-h64
examples=bindings/c/examples

# ---- what is exported -------------------------------------------------------------------------------------------------------------
nm -D --defined-only "$lib" | awk '{ print $3 }' | sort >"$work/exported"
grep -o '^[a-z].*trivec_[a-z_]*(' bindings/c/include/trivec.h | grep -v '^typedef' | grep -o 'trivec_[a-z_]*($' | tr -d '(' | sort >"$work/declared"
diff "$work/declared" "$work/exported" || { echo "the header and the library have other functions"; exit 1; }
readelf -d "$lib" | grep -q 'SONAME.*\[libtrivec.so.1\]' || { echo "the library has another SONAME"; exit 1; }
echo "$(wc -l <"$work/exported") functions, $(stat -c %s "$lib") bytes"

# ---- C and C++ --------------------------------------------------------------------------------------------------------------------
c="-std=c11 -Wall -Wextra -Wpedantic -Werror -O1 -g" cpp="-std=c++17 -Wall -Wextra -Wpedantic -Werror -O1 -g"
flags=$(pkg-config --cflags --libs trivec)
texts=("the cat sat on the mat" "" "die Katze saß auf der Matte" "天気がいい")
# A program is judged by its exit status, and embed by what it prints as well: the same, however it was built and run.
try() {
  local what=$1; shift
  "$@" "$model" "${texts[@]}" >"$work/printed" || { echo "$what failed"; cat "$work/printed"; exit 1; }
  [ -e "$work/expected" ] || cp "$work/printed" "$work/expected"
  diff "$work/expected" "$work/printed" || { echo "$what prints something else"; exit 1; }
  echo "  $what: good"
}
alone() {
  local what=$1; shift
  "$@" "$model" >"$work/printed" 2>&1 || { echo "$what failed"; cat "$work/printed"; exit 1; }
  echo "  $what: good"
}
compilers=(cc)
found clang && compilers+=(clang)
for compiler in "${compilers[@]}"; do
  for name in embed misuse fork; do
    $compiler $c -pthread -fsanitize=address,undefined "$examples/$name.c" $flags -o "$work/$name.asan"
    $compiler $c -pthread "$examples/$name.c" $flags -o "$work/$name"
  done
  echo "$compiler:"
  try "embed.c" "$work/embed"
  try "embed.c with AddressSanitizer" "$work/embed.asan"
  alone "misuse.c" "$work/misuse"
  alone "misuse.c with AddressSanitizer" "$work/misuse.asan"
  alone "fork.c" "$work/fork"
  # Nothing else is said, by no child either.
  [ "$(cat "$work/printed")" = "the same bits" ] || { cat "$work/printed"; exit 1; }
done
grep -q '^1.0000 .*cat sat' "$work/expected" || { echo "a text is not like itself:"; cat "$work/expected"; exit 1; }
# The header in C++, the wrapper, and both together with every warning.
echo '#include "trivec.h"' | c++ $cpp -x c++ -I bindings/c/include -fsyntax-only -
c++ $cpp "$examples/embed.cpp" $flags -o "$work/embed-cpp"
"$work/embed-cpp" "$model" "${texts[@]}" >"$work/printed" || { echo "embed.cpp failed"; cat "$work/printed"; exit 1; }
# The snippets of docs/c.md are compiled as they stand, inside a function.
snippet() { python3 tools/document_blocks.py block "$1" docs/c.md; }
{ printf '#include <stdio.h>\n#include "trivec.h"\nint snippet(void);\nint snippet(void) {\n'; snippet c; printf 'return 0;\n}\n'; } |
  cc $c -x c -I bindings/c/include -fsyntax-only -
{ printf '#include "trivec.hpp"\nfloat snippet() {\n'; snippet cpp; printf 'return first;\n}\n'; } | c++ $cpp -x c++ -I bindings/c/include -fsyntax-only -
echo "  docs/c.md: compiles"
# A program that is told why it failed.
{ "$work/embed" /nowhere a 2>&1 || true; } | grep -q '/nowhere: there is no such model' || { echo "embed.c does not say what is wrong"; exit 1; }
c++ $cpp -fsanitize=address,undefined "$examples/embed.cpp" $flags -o "$work/embed-cpp.asan"
"$work/embed-cpp.asan" "$model" "${texts[@]}" | diff "$work/printed" -
echo "  embed.cpp: good, with AddressSanitizer as well"
# One file without libraries but the system's, and one without any.
static=$(sed -n 's/^Libs.private: //p' "$work/usr/lib/pkgconfig/trivec.pc" | sed 's/-lgcc_s//')
cc $c "$examples/embed.c" -I bindings/c/include "$work/usr/lib/libtrivec.a" $static -o "$work/embed-a"
try "embed.c with libtrivec.a" "$work/embed-a"
if cc $c -static "$examples/embed.c" -I bindings/c/include "$work/usr/lib/libtrivec.a" $static -lgcc_eh -o "$work/embed-static" 2>"$work/log"; then
  try "embed.c without any library ($(stat -c %s "$work/embed-static") bytes)" "$work/embed-static"
else
  echo "  SKIPPED: the static program: $(tail -1 "$work/log")"
fi

# ---- valgrind ---------------------------------------------------------------------------------------------------------------------
if found valgrind; then
  v="valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect"
  $v "$work/embed" "$model" "${texts[@]}" >"$work/printed"
  # On the instruction sets that valgrind has, other digits than here are possible.
  [ "$(wc -l <"$work/printed")" = "${#texts[@]}" ]
  alone "misuse.c in valgrind" $v "$work/misuse"
else
  echo "  SKIPPED: valgrind is not installed"
fi

# ---- other builds and languages -----------------------------------------------------------------------------------------------------
if found cmake; then
  printf 'cmake_minimum_required(VERSION 3.16)\nproject(t C)\nfind_package(trivec 1 REQUIRED)\nadd_executable(e %s)\ntarget_link_libraries(e trivec::trivec)\n' \
    "$PWD/$examples/embed.c" >"$work/CMakeLists.txt"
  cmake -S "$work" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/usr" >/dev/null && cmake --build "$work/cmake" >/dev/null
  try "embed.c by CMake" "$work/cmake/e"
else
  echo "  SKIPPED: CMake is not installed"
fi
if found go; then
  (cd "$examples/go" && CGO_CFLAGS=$(pkg-config --cflags trivec) CGO_LDFLAGS=$(pkg-config --libs trivec) GOFLAGS=-mod=mod go build -o "$work/embed-go" .)
  try "embed.go" "$work/embed-go"
else
  echo "  SKIPPED: Go is not installed"
fi
zig=
found zig && zig=zig
[ -n "$zig" ] || { python3 -c 'import ziglang' 2>/dev/null && zig="python3 -m ziglang"; }
if [ -n "$zig" ]; then
  export ZIG_GLOBAL_CACHE_DIR=$work/zig ZIG_LOCAL_CACHE_DIR=$work/zig
  mkdir "$work/zig-example"
  printf '#include <stdio.h>\n#include <string.h>\n#include "trivec.h"\n' >"$work/zig-example/c.h"
  cp "$examples/embed.zig" "$work/zig-example/"
  $zig translate-c -lc -I "$work/usr/include" "$work/zig-example/c.h" >"$work/zig-example/c.zig"
  $zig build-exe "$work/zig-example/embed.zig" -L "$work/usr/lib" -ltrivec -lc -femit-bin="$work/embed-zig"
  try "embed.zig" "$work/embed-zig"
else
  echo "  SKIPPED: Zig is not installed"
fi
echo "the C interface is good"
