#!/usr/bin/env bash
# examples/corpus/shards.sh, with what happens to jobs: killed in the middle, one input that is damaged, inputs with exchanged names, one that has changed,
# a full disk, a model that is not there. check_shards.sh [TRIVEC]
set -euo pipefail
cd "$(dirname "$0")/.."
real=$(realpath "${1:-target/release/trivec}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$PWD/tests/data/models/f32-h64
fail() { echo "FAILED: $*" >&2; exit 1; }
for file in a b c; do
  for ((line = 0; line < 40; line++)); do echo "{\"id\": \"$file$line\", \"text\": \"text $line of $file, the cat sat\"}"; done >"$work/$file.jsonl"
done
# A trivec that counts its calls of `embed`, and does to the job what DO says when the call AT comes.
cat >"$work/trivec" <<END
#!/usr/bin/env bash
if [ "\$1" = embed ]; then
  echo x >>"$work/calls"
  if [ "\$(wc -l <"$work/calls")" = "\${AT:-0}" ]; then
    case "\$DO" in
      kill) kill -9 "\$PPID"; exit 1 ;;
      full) exec "$real" "\$@" >/dev/full ;;
    esac
  fi
fi
exec "$real" "\$@"
END
chmod +x "$work/trivec"
export TRIVEC=$work/trivec TRIVEC_OPTIONS="--modes all --threads 1"
job() { : >"$work/calls"; bash examples/corpus/shards.sh "$model" "$@"; }
calls() { wc -l <"$work/calls"; }
hash_of() { (cd "$1" && sha256sum ./*.jsonl | sha256sum); }
inputs=("$work/a.jsonl" "$work/b.jsonl" "$work/c.jsonl")

job "$work/whole" 4 "${inputs[@]}"
[ "$(calls)" = 12 ] && [ "$(cat "$work"/whole/*.jsonl | wc -l)" = 120 ] || fail "not every line is embedded once"
job "$work/whole" 4 "${inputs[@]}"
[ "$(calls)" = 0 ] || fail "what was done is done again"

# Killed three times, each time in another part; then to the end.
for at in 3 2 4; do
  if AT=$at DO=kill job "$work/killed" 4 "${inputs[@]}" 2>/dev/null; then fail "it was not killed"; fi
done
job "$work/killed" 4 "${inputs[@]}"
[ "$(hash_of "$work/whole")" = "$(hash_of "$work/killed")" ] || fail "after kills there is something else"
[ "$(calls)" = 6 ] || fail "$(calls) parts were missing after the kills, not 6"

# Three workers share the parts.
for index in 0 1 2; do JOB_COMPLETION_INDEX=$index WORKERS=3 job "$work/three" 4 "${inputs[@]}"; [ "$(calls)" = 4 ] || fail "worker $index has $(calls) parts"; done
[ "$(hash_of "$work/whole")" = "$(hash_of "$work/three")" ] || fail "three workers give something else"

# Names do not matter, content does.
mv "$work/a.jsonl" "$work/x" && mv "$work/b.jsonl" "$work/a.jsonl" && mv "$work/x" "$work/b.jsonl"
job "$work/whole" 4 "${inputs[@]}"
[ "$(calls)" = 0 ] || fail "exchanged names make $(calls) parts be done again"
sed -i '7s/cat/dog/' "$work/c.jsonl"
job "$work/whole" 4 "${inputs[@]}"
[ "$(calls)" = 4 ] || fail "a changed input makes $(calls) parts be done again, not its 4"

# Lines without anything are no records, also where a part has no other.
printf '{"text": "a"}\n\n \t\r\n{"text": "b"}\r\n\n' >"$work/gaps.jsonl"
job "$work/gaps" 5 "$work/gaps.jsonl"
[ "$(calls)" = 5 ] && [ "$(cat "$work"/gaps/*.jsonl | wc -l)" = 2 ] || fail "lines without anything are not passed over"
job "$work/gaps" 5 "$work/gaps.jsonl"
[ "$(calls)" = 0 ] || fail "parts without records are done again"

# A damaged input fails alone; a full disk leaves no part behind; so does a model that is not there.
printf '{"text": \n' >"$work/bad.jsonl"
if job "$work/bad" 1 "$work/bad.jsonl" "$work/a.jsonl" 2>/dev/null; then fail "a damaged input is not told of"; fi
[ "$(ls "$work/bad" | wc -l)" = 1 ] || fail "a damaged input holds up the others"
if AT=1 DO=full job "$work/full" 1 "$work/a.jsonl" 2>/dev/null; then fail "a full disk is not told of"; fi
[ -z "$(ls -A "$work/full")" ] || fail "a full disk leaves files behind"
if bash examples/corpus/shards.sh "$work/no-model" "$work/none" 1 "$work/a.jsonl" 2>/dev/null; then fail "a model that is not there is not told of"; fi
said=$(bash examples/corpus/shards.sh starter "$work/none" 1 "$work/a.jsonl" 2>&1 || true)
[[ "$said" == *"a packed file"*"not a name"* ]] || fail "a model's name is not told apart: $said"
echo "shards are good"
