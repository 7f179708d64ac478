#!/usr/bin/env bash
# trivec.flag beside FlagEmbedding itself, on the same tiny checkpoints: the calls of bindings/python/tests/reference_cases.py, FlagEmbedding's own example
# scripts, what `trivec.train` exports loaded by FlagEmbedding and sentence-transformers, pymilvus-model into Milvus Lite, and the time to a first vector.
# Values within 1e-5, types and the order of dicts equal, the same ten best hits. FlagEmbedding brings torch, some gigabytes: not a part of every run.
#
# tools/flagembedding/run.sh WHEEL [CHECKOUT]: CHECKOUT is one of FlagEmbedding's repository, whose examples are run unmodified; without it they are not run.
# Environments stay in TRIVEC_FLAGEMBEDDING (target/flagembedding): `reference` with FlagEmbedding, `own` with the wheel and numpy, `milvus` with the wheel
# and pymilvus-model, but not FlagEmbedding.
set -euo pipefail
cd "$(dirname "$0")"
[ $# -ge 1 ] || { sed -n 7p "$0"; exit 2; }
wheel=$(realpath "$1") checkout=${2:+$(realpath "$2")}
folder=${TRIVEC_FLAGEMBEDDING:-$PWD/../../target/flagembedding}
milvus=(pymilvus milvus-lite pymilvus-model datasets)
for name in reference own milvus; do
  [ -x "$folder/$name/bin/pip" ] || python3 -m venv "$folder/$name"
done
"$folder/reference/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt "${milvus[@]}"
"$folder/own/bin/pip" install --quiet --disable-pip-version-check numpy
"$folder/milvus/bin/pip" install --quiet --disable-pip-version-check "${milvus[@]}"
# pymilvus-model asks whether peft is there, which brings torch and is not used; what it misses it installs by the `pip` of the path.
"$folder/milvus/bin/pip" install --quiet --disable-pip-version-check --no-deps peft
for name in own milvus; do
  "$folder/$name/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing is fetched: models are found where a cache of Hugging Face's has them.
export HF_HOME=$work HF_HUB_CACHE=$work/hub HF_HUB_OFFLINE=1 TRIVEC_HOME=$work/home TOKENIZERS_PARALLELISM=false PYTHONPATH=$PWD/../../bindings/python/tests
compare() { "$folder/own/bin/python" compare.py "$@"; }
"$folder/own/bin/python" -m unittest -q test_compare
# What FlagEmbedding says on the way is shown if it fails.
reference() { "$folder/reference/bin/python" -W ignore "$@" 2>"$work/log" || { tail -5 "$work/log" >&2; exit 1; }; }
reference checkpoints.py "$work"
"$folder/own/bin/python" - "$work" <<'PYTHON'
import sys
import trivec
pairs = [(f"the cat {at}", f"the cat number {at} sat on the mat and looked at {at * 7}") for at in range(60)]
for name, heads in (("trained", "all"), ("trained-heads", "sparse,colbert")):
    trivec.train(trivec.Model(f"{sys.argv[1]}/m3"), pairs, f"{sys.argv[1]}/{name}", heads=heads, batch=16)
PYTHON
"$folder/own/bin/python" answers.py trivec "$work" >"$work/own.json"
reference answers.py FlagEmbedding "$work" >"$work/reference.json"
compare answers "$work/own.json" "$work/reference.json"
reference answers.py sentence-transformers "$work" >"$work/st.json"
compare answers "$work/own.json" "$work/st.json"
PATH=$folder/milvus/bin:$PATH "$folder/milvus/bin/python" -W ignore milvus.py trivec "$work/own-hits.json" >"$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
reference milvus.py FlagEmbedding "$work/hits.json" >/dev/null
compare hits "$work/own-hits.json" "$work/hits.json"
if [ -n "$checkout" ]; then
  for script in "$checkout"/examples/inference/embedder/encoder_only/*m3_*.py "$checkout"/examples/inference/reranker/encoder_only/*base_*.py; do
    "$folder/own/bin/python" -W ignore -m trivec.as_flagembedding "$script" >"$work/own.txt"
    reference on_cpu.py "$script" >"$work/reference.txt"
    compare printed "$work/own.txt" "$work/reference.txt" "${script#"$checkout"/}"
  done
else
  echo "NOT RUN: FlagEmbedding's examples: no checkout of its repository was named"
fi
compare start "$folder/own/bin/python" "$folder/reference/bin/python" "$work/m3"
