// The words of a text as numbers, for the page's own search: as the index has them (crates/search/src/analyze), but without stems.

// Scripts without spaces between words: pairs of neighbours; of Han and kana single characters too.
const PAIRED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const SINGLE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
const RUN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー]+|[\p{Script=Hangul}]+|[\p{Script=Thai}\p{M}]+|[\p{Script=Lao}\p{M}]+|[\p{Script=Khmer}\p{M}]+|[\p{Script=Myanmar}\p{M}]+|[\p{L}\p{N}][\p{L}\p{N}\p{M}'’]*/gu;

export const plain = (text) => text.normalize("NFKC").toLowerCase();

/** The words of a text, with those that come again. */
export function words(text) {
  const found = [];
  for (const [run] of plain(text).matchAll(RUN)) {
    if (!PAIRED.test(run)) { found.push(run.replace(/['’]s?$/, "")); continue; }
    const characters = [...run];
    const single = SINGLE.test(run);
    if (single || characters.length === 1) found.push(...characters);
    for (let i = 1; i < characters.length; i++) found.push(characters[i - 1] + characters[i]);
  }
  return found;
}

/** FNV-1a of a word: two words of one number are as good as never in one corpus. */
export function hash(word) {
  let h = 2166136261;
  for (let i = 0; i < word.length; i++) h = Math.imul(h ^ word.charCodeAt(i), 16777619);
  return h >>> 0;
}

/** Parts of `text` as `{text, mark?}`, with the words that `wanted` (a set of hashes) has marked. */
export function marked(text, wanted) {
  const parts = [];
  let at = 0;
  const lower = text.toLowerCase();
  // Where lower case has another length, places in it say nothing of the text.
  if (lower.length !== text.length) return [{ text }];
  for (const found of lower.matchAll(RUN)) {
    for (const [from, to] of within(found[0], wanted)) {
      const start = Math.max(at, found.index + from);
      const end = found.index + to;
      if (end <= start) continue;
      if (start > at) parts.push({ text: text.slice(at, start) });
      parts.push({ text: text.slice(start, end), mark: "word" });
      at = end;
    }
  }
  if (at < text.length) parts.push({ text: text.slice(at) });
  return parts;
}

/** The ranges of a run that are wanted: all of a word, or pairs of characters (single ones stand everywhere). */
function within(run, wanted) {
  if (!PAIRED.test(run)) return words(run).some((word) => wanted.has(hash(word))) ? [[0, run.length]] : [];
  const ranges = [];
  let [at, before] = [0, null];
  for (const character of run) {
    if (before !== null && wanted.has(hash(plain(before + character)))) ranges.push([at - before.length, at + character.length]);
    [at, before] = [at + character.length, character];
  }
  return ranges;
}
