#!/usr/bin/env bash
# Sees to it that every command in README.md and docs/ is run (tools/document_blocks.py says by whom), and runs those that are left to this
# script, as they stand, document by document, each in a directory of its own; holds the transcript of `explain` against what the program
# prints; and finds what every relative link names.
set -euo pipefail
python3 -m doctest tools/document_blocks.py
python3 tools/document_blocks.py check README.md CONTRIBUTING.md docs/*.md docs/python/*.md bindings/python/README.md
export PATH="$PWD/target/release:$PATH"
work=$(mktemp -d)
# The README shows the starter, whatever model this machine has in use.
export TRIVEC_HOME="$work/home"
trap 'rm -rf "$work"' EXIT
root=$PWD
for document in README.md docs/*.md; do
  own="$work/$(basename "$document" .md)"
  mkdir "$own"
  # The service gets a port that is free here.
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  python3 tools/document_blocks.py script "$port" "$document" > "$own/commands"
  [ -s "$own/commands" ] || continue
  cd "$own"
  printf 'first text\nsecond text\n' > texts.txt
  printf 'a query\ta document\n' > pairs.tsv
  printf '{"id": "phone", "text": "Apple has a new iPhone.", "year": 2024}\n{"id": "train", "text": "The night train to Vienna.", "year": 2021}\n' > docs.jsonl
  for animal in cat dog horse cow goat sheep duck goose; do
    printf '{"query": "what does a %s eat", "passage": "In the wild a %s finds its food in the woods."}\n' $animal $animal >> pairs.jsonl
    printf '{"query": "where does a %s sleep", "passage": "At night the %s rests in a dry place."}\n' $animal $animal >> dev.jsonl
  done
  bash -euxo pipefail commands < /dev/null > log 2>&1 || { cat log; exit 1; }
  cd "$root"
  echo "$document: its commands run"
done
sed -n '/<!-- explain -->/,/<!-- \/explain -->/p' README.md | grep -v '<!--' | grep -v '```' > "$work/shown"
trivec explain "苹果公司发布新手机" "Apple launched a new iPhone" > "$work/real"
diff <(tail -n +2 "$work/shown") "$work/real"
[ "$(wc -l < README.md)" -le 160 ] || { echo "README.md has more than 160 lines"; exit 1; }
python3 - <<'END'
import pathlib, re, sys
missing = []
for document in [*pathlib.Path(".").glob("*.md"), *pathlib.Path("docs").rglob("*.md")]:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        if not (document.parent / link).exists():
            missing.append(f"{document}: {link}")
sys.exit("links to what is not there:\n" + "\n".join(missing) if missing else 0)
END
echo "README.md's transcript is the program's, and all links lead somewhere"
