#!/usr/bin/env bash
# Runs other engines beside trivec on the same random weights, prints markdown tables and writes a record. See README.md here.
# run.sh [--isa NAME] [--venv DIR] [options of bench.py]; everything that is built or converted stays outside the sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trivec-peers

venv=$cache/venv trivec='' isa='' engines=onnxruntime,openvino,ctranslate2,llama,pytorch,zentorch build=yes pass=()
while [ $# -gt 0 ]; do
  case $1 in
    --venv) venv=$2; shift 2 ;;
    --trivec) trivec=$2; shift 2 ;;
    --engines) engines=$2; shift 2 ;;
    --isa) isa=$2; shift 2 ;;
    --no-trivec) build=no; pass+=("$1"); shift ;;
    *) pass+=("$1"); shift ;;
  esac
done
llama_cmake=''
if [ -n "$isa" ]; then
  # Before anything is installed: a set that this processor lacks ends here.
  python3 "$here/machine.py" check "$isa"
  llama_cmake=$(python3 "$here/machine.py" llama "$isa" || true)
  pass+=(--isa "$isa")
fi

# environment DIR REQUIREMENTS: a virtual environment with these packages. One by one where all together fail: an engine without a wheel
# for this machine is left out, not all of them.
environment() {
  local packages
  packages=$(grep -v '^#' "$here/$2")
  [ -x "$1/bin/python" ] || python3 -m venv "$1"
  [ "$(cat "$1/.trivec-peers" 2>/dev/null)" = "$packages" ] && return
  "$1/bin/pip" install -q -r "$here/$2" >&2 ||
    while read -r package; do
      "$1/bin/pip" install -q "$package" >&2 || echo "run.sh: $package cannot be installed" >&2
    done <<<"$packages"
  echo "$packages" >"$1/.trivec-peers"
}

asked() { case ,$engines, in *,$1,*) true ;; *) false ;; esac; }

environment "$venv" requirements.txt
for engine in pytorch zentorch; do
  if asked $engine; then
    environment "$venv-$engine" requirements-$engine.txt
    pass+=(--python "$engine=$venv-$engine/bin/python")
  fi
done
if asked llama; then
  # llama.cpp chooses its instructions when it is compiled: by default for this processor, for another set in an environment of its own.
  llama=$venv
  if [ -n "$llama_cmake" ]; then
    llama=$venv-llama-$isa
    environment "$llama" requirements-llama.txt
    pass+=(--python "llama=$llama/bin/python" --llama-built-for "$isa")
  fi
  if ! "$llama/bin/python" -c 'import llama_cpp' 2>/dev/null && [ ! -e "$llama/.llama-failed" ]; then
    echo "run.sh: compiling llama-cpp-python, some minutes" >&2
    CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) CMAKE_ARGS=$llama_cmake "$llama/bin/pip" install -q --no-cache-dir llama-cpp-python >&2 || {
      touch "$llama/.llama-failed"
      echo "run.sh: llama-cpp-python does not build; remove $llama/.llama-failed to try again" >&2
    }
  fi
fi

if [ -z "$trivec" ] && [ $build = yes ]; then
  cargo build --release --locked --manifest-path "$root/Cargo.toml" >&2
  trivec=${CARGO_TARGET_DIR:-$root/target}/release/trivec
  if commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null); then
    [ -z "$(git -C "$root" status --porcelain --untracked-files=no)" ] || commit+=+
    pass+=(--commit "$commit")
  fi
fi
exec "$venv/bin/python" "$here/bench.py" --engines "$engines" --work "$cache/work" ${trivec:+--trivec "$trivec"} "${pass[@]}"
