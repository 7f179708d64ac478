#!/usr/bin/env bash
# Holds the dependency tree that docs/architecture.md shows against the real one.
set -euo pipefail
real=$(cargo tree -p trivec -e normal --no-default-features --prefix none --locked | sed 's/ (.*//; s/ v[0-9].*//' | sort -u | tr '\n' ' ')
shown=$(sed -n '/<!-- tree -->/,/<!-- \/tree -->/p' docs/architecture.md | grep -v '<!--' | grep -v '```' | tr ' ' '\n' | grep . | sort -u | tr '\n' ' ')
if [ "$real" != "$shown" ]; then
  printf 'the engine depends on: %s\ndocs/architecture.md:  %s\n' "$real" "$shown"
  exit 1
fi
echo "the engine's packages: $real"
