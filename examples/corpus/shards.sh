#!/usr/bin/env bash
# shards.sh MODEL OUT SHARDS INPUT...: embeds JSON Lines on any number of machines that share a file system, without a scheduler of its own.
#
# MODEL is a packed file or a model's directory, which all machines can read; lines without anything are passed over.
# Each input is cut into SHARDS parts of lines. A part is done when its file is in OUT: its name is a digest of the input's content, the range of lines,
# the model's content and the options, so that a job that is started again does what is missing, and an input or a model that has changed is embedded
# anew. Parts are written aside and renamed. A part may be done twice, by two machines at a time: with the same bits.
#
# This process takes the parts whose number is its own, of all: JOB_COMPLETION_INDEX of a Kubernetes Indexed Job or SLURM_ARRAY_TASK_ID, and
# WORKERS (SLURM_ARRAY_TASK_COUNT). TRIVEC_OPTIONS: further options of `trivec embed`, as "--modes all --max-length 512".
set -euo pipefail
[ $# -ge 4 ] || { sed -n 2p "$0"; exit 2; }
model=$1 out=$2 shards=$3; shift 3
index=${JOB_COMPLETION_INDEX:-${SLURM_ARRAY_TASK_ID:-0}} workers=${WORKERS:-${SLURM_ARRAY_TASK_COUNT:-1}}
trivec=${TRIVEC:-trivec}
read -r -a options <<<"${TRIVEC_OPTIONS:-}"
mkdir -p "$out"
if [ -d "$model" ]; then
  model_digest=$(cd "$model" && find . -type f | LC_ALL=C sort | while read -r file; do sha256sum "$file"; done | sha256sum)
elif [ -e "$model" ]; then
  model_digest=$(sha256sum <"$model")
else
  echo "$model: there is no such file or directory; expected a packed file (\`trivec pack\` makes one) or a model's directory, not a name" >&2
  exit 2
fi
part=0 failed=0
for input in "$@"; do
  content=$(sha256sum <"$input") lines=$(wc -l <"$input")
  # A last line without an end is a line, too.
  [ -z "$(tail -c 1 "$input")" ] || lines=$((lines + 1))
  for ((shard = 0; shard < shards; shard++)); do
    first=$((lines * shard / shards)) end=$((lines * (shard + 1) / shards))
    part=$((part + 1))
    [ $(((part - 1) % workers)) = "$index" ] && [ $first -lt $end ] || continue
    key=$(printf '%s\0%s %s\0%s\0%s\0%s' "${content%% *}" $first $end "${model_digest%% *}" "${options[*]}" "$($trivec --version)" | sha256sum)
    target=$out/${key%% *}.jsonl
    [ ! -e "$target" ] || continue
    aside=$target.$$.$(hostname).part
    part_of() { tail -n +$((first + 1)) "$input" | head -n $((end - first)); }
    records=$(part_of | grep -c '[^[:space:]]' || true)
    # One part that fails, for its input is damaged, does not hold up the others.
    if part_of | $trivec embed --model "$model" --input - --input-format jsonl "${options[@]}" >"$aside" &&
      [ "$(wc -l <"$aside")" = "$records" ] && sync "$aside"; then
      mv "$aside" "$target"
    else
      echo "$input, lines $((first + 1)) to $end: failed" >&2
      rm -f "$aside"
      failed=1
    fi
  done
done
exit $failed
