#!/usr/bin/env bash
# Runs other engines beside trivec on the same random weights and prints a markdown table. See README.md here.
# run.sh [--venv DIR] [options of bench.py]; everything that is built or converted stays outside the sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trivec-peers

venv=$cache/venv trivec='' engines=onnxruntime,openvino,ctranslate2,llama build=yes pass=()
while [ $# -gt 0 ]; do
  case $1 in
    --venv) venv=$2; shift 2 ;;
    --trivec) trivec=$2; shift 2 ;;
    --engines) engines=$2; shift 2 ;;
    --no-trivec) build=no; pass+=("$1"); shift ;;
    *) pass+=("$1"); shift ;;
  esac
done

if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
wanted=$(cksum < "$here/requirements.txt")
if [ "$(cat "$venv/.trivec-peers" 2>/dev/null)" != "$wanted" ]; then
  # One by one when all together fail: an engine without a wheel for this machine is left out, not all of them.
  "$venv/bin/pip" install -q -r "$here/requirements.txt" >&2 ||
    grep -v '^#' "$here/requirements.txt" | while read -r package; do
      "$venv/bin/pip" install -q "$package" >&2 || echo "run.sh: $package cannot be installed" >&2
    done
  echo "$wanted" > "$venv/.trivec-peers"
fi
case ,$engines, in *,llama,*)
  if ! "$venv/bin/python" -c 'import llama_cpp' 2>/dev/null && [ ! -e "$venv/.llama-failed" ]; then
    echo "run.sh: compiling llama-cpp-python for this machine, some minutes" >&2
    CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$venv/bin/pip" install -q llama-cpp-python >&2 || {
      touch "$venv/.llama-failed"
      echo "run.sh: llama-cpp-python does not build; remove $venv/.llama-failed to try again" >&2
    }
  fi ;;
esac

if [ -z "$trivec" ] && [ $build = yes ]; then
  cargo build --release --locked --manifest-path "$root/Cargo.toml" >&2
  trivec=${CARGO_TARGET_DIR:-$root/target}/release/trivec
fi
exec "$venv/bin/python" "$here/bench.py" --engines "$engines" --work "$cache/work" ${trivec:+--trivec "$trivec"} "${pass[@]}"
