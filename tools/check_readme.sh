#!/usr/bin/env bash
# Runs the commands of README.md's blocks that are marked `<!-- run -->`, as they stand, and holds the transcript of `explain` against
# what the program prints.
set -euo pipefail
export PATH="$PWD/target/release:$PATH"
work=$(mktemp -d)
# The README shows the starter, whatever model this machine has in use.
export TRIVEC_HOME="$work/home"
trap 'rm -rf "$work"' EXIT
sed -n '/<!-- run -->/,/<!-- \/run -->/p' README.md | grep -v '<!--' | grep -v '```' > "$work/commands"
root=$PWD
cd "$work"
printf 'first text\nsecond text\n' > texts.txt
printf 'a query\ta document\n' > pairs.tsv
printf '{"id": "phone", "text": "Apple has a new iPhone.", "year": 2024}\n{"id": "train", "text": "The night train to Vienna.", "year": 2021}\n' > docs.jsonl
bash -euxo pipefail commands < /dev/null > log 2>&1 || { cat log; exit 1; }
cd "$root"
sed -n '/<!-- explain -->/,/<!-- \/explain -->/p' README.md | grep -v '<!--' | grep -v '```' > "$work/shown"
trivec explain "苹果公司发布新手机" "Apple launched a new iPhone" > "$work/real"
diff <(tail -n +2 "$work/shown") "$work/real"
echo "README.md's commands run and its transcript is the program's"
