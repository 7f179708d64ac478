// The page's own search, beside the page's thread: it reads the texts and keeps them, and for a question looks at every vector, int8 of a row
// each, and at every word.
//
// The page's thread asks for texts a part at a time, and brings the vectors that the service has made of them. A question is a vector and its words; the answer the best documents of
// both, fused as the index does by default: the dense score stretched to 0..1, plus the share of the question's words.

import { parseDocuments } from "./parse.js";
import { hash, words } from "./terms.js";

const K1 = 1.2;
const B = 0.75;
/** The best of the dense scores, over which they are stretched. */
const STRETCHED = 1000;

/** What was read last, and what is searched. */
let draft = [];
let docs = [];
let dim = 0;
let vectors = new Int8Array(0);
let scales = new Float32Array(0);
/** Whether a document has its vector; in the order of documents. */
let known = new Uint8Array(0);
let terms = new Uint32Array(1 << 16);
let ends = [];

const searchedText = (doc) => (doc.title ? `${doc.title}\n${doc.text}` : doc.text);

/** Reads what was typed or dropped; rows without a text are none. Half of a character cannot be sent: `broken` are those documents. */
function parse({ text, name }) {
  draft = [];
  if (text.trim() === "") return { format: "", count: 0 };
  const { format, rows } = parseDocuments(text, name, true);
  rows.forEach(({ b, error, key, title, lang }, row) => { if (!error && b.trim() !== "") draft.push({ key, title, lang, text: b, row }); });
  return { format, count: draft.length, rows: rows.length };
}

/** From now on what was read last is searched. */
function begin() {
  clear();
  [docs, draft] = [draft, []];
  const broken = [];
  docs.forEach((doc, place) => { if (/\p{Surrogate}/u.test(searchedText(doc))) broken.push(place); });
  return { lengths: Uint32Array.from(docs, (doc) => doc.text.length), broken };
}

function clear() {
  docs = [];
  [dim, vectors, scales, known] = [0, new Int8Array(0), new Float32Array(0), new Uint8Array(0)];
  [terms, ends] = [new Uint32Array(1 << 16), []];
}

/** The words of the next `count` documents. */
function read(count) {
  let used = ends.at(-1) ?? 0;
  for (const doc of docs.slice(ends.length, ends.length + count)) {
    const found = words(searchedText(doc));
    if (used + found.length > terms.length) {
      const larger = new Uint32Array(Math.max(2 * terms.length, used + found.length));
      larger.set(terms.subarray(0, used));
      terms = larger;
    }
    for (const word of found) terms[used++] = hash(word);
    ends.push(used);
  }
}

/** Room for vectors of a length. */
function prepare(length) {
  dim = length;
  [vectors, scales, known] = [new Int8Array(docs.length * dim), new Float32Array(docs.length), new Uint8Array(docs.length)];
}

function keep(places, values) {
  places.forEach((place, i) => {
    const row = values.subarray(i * dim, (i + 1) * dim);
    let most = 0;
    for (const x of row) most = Math.max(most, Math.abs(x));
    if (!(most > 0)) return;
    for (let j = 0; j < dim; j++) vectors[place * dim + j] = Math.round((row[j] / most) * 127);
    scales[place] = most / 127;
    known[place] = 1;
  });
}

/** The cosine with every document; -Infinity where there is no vector yet. */
function dense(query) {
  const scores = new Float32Array(ends.length).fill(-Infinity);
  for (let doc = 0; doc < known.length; doc++) {
    if (!known[doc]) continue;
    let sum = 0;
    const base = doc * dim;
    for (let j = 0; j < dim; j++) sum += query[j] * vectors[base + j];
    scores[doc] = sum * scales[doc];
  }
  return scores;
}

/** BM25 of every document, and the most that there can be: their quotient is the share of the question's words. */
function lexical(text) {
  const wanted = new Map();
  for (const word of words(text)) if (!wanted.has(hash(word))) wanted.set(hash(word), wanted.size);
  const count = ends.length;
  const scores = new Float32Array(count);
  if (wanted.size === 0 || count === 0) return { scores, most: 0 };
  // A first look at a bit of each word: nearly all are none of the question's.
  const bits = new Uint8Array(1 << 16);
  for (const term of wanted.keys()) bits[term & 0xffff] = 1;
  const hits = [];
  const frequency = new Uint32Array(wanted.size);
  for (let doc = 0, at = 0; doc < count; doc++) {
    let here = null;
    for (; at < ends[doc]; at++) {
      const term = terms[at];
      if (!bits[term & 0xffff]) continue;
      const place = wanted.get(term);
      if (place === undefined) continue;
      here ??= new Uint16Array(wanted.size);
      if (here[place] === 0) frequency[place]++;
      if (here[place] < 65535) here[place]++;
    }
    if (here) hits.push([doc, here]);
  }
  const mean = Math.max(1, (ends.at(-1) ?? 0) / count);
  const idf = Array.from(frequency, (n) => Math.log(1 + (count - n + 0.5) / (n + 0.5)));
  for (const [doc, here] of hits) {
    const length = ends[doc] - (doc ? ends[doc - 1] : 0);
    let sum = 0;
    here.forEach((n, place) => { if (n) sum += (idf[place] * n * (K1 + 1)) / (n + K1 * (1 - B + (B * length) / mean)); });
    scores[doc] = sum;
  }
  return { scores, most: idf.reduce((sum, x) => sum + x * (K1 + 1), 0) };
}

/** The places of the `k` largest scores that are above `least`, best first; of equals the first. */
function best(scores, k, least) {
  const order = (x, y) => scores[y] - scores[x] || x - y;
  let kept = [];
  let bar = least;
  for (let doc = 0; doc < scores.length; doc++) {
    if (!(scores[doc] > bar)) continue;
    kept.push(doc);
    if (kept.length >= 2 * k) {
      kept = kept.sort(order).slice(0, k);
      bar = scores[kept.at(-1)];
    }
  }
  return kept.sort(order).slice(0, k);
}

function search({ vector, text, top }) {
  const begin = performance.now();
  const [cosines, { scores, most }] = [dense(vector), lexical(text)];
  const byDense = best(cosines, STRETCHED, -Infinity);
  const byWords = best(scores, STRETCHED, 0);
  const [high, low] = [cosines[byDense[0]] ?? 0, cosines[byDense.at(-1)] ?? 0];
  const ranks = [byDense, byWords].map((list) => new Map(list.map((doc, i) => [doc, i + 1])));
  const share = (doc) => (most > 0 ? Math.min(1, scores[doc] / most) : 0);
  const stretched = (doc) => (high > low ? Math.max(0, (cosines[doc] - low) / (high - low)) : 1);
  const fused = [...new Set([...byDense, ...byWords])].filter((doc) => known[doc]).map((doc) => ({
    doc, share: share(doc), fused: (stretched(doc) + share(doc)) / 2,
    dense: { rank: ranks[0].get(doc) ?? null, score: cosines[doc] },
    bm25: ranks[1].has(doc) ? { rank: ranks[1].get(doc), score: scores[doc] } : null,
  }));
  fused.sort((x, y) => y.fused - x.fused || x.doc - y.doc);
  let searched = 0;
  for (const one of known) searched += one;
  return { found: fused.slice(0, top), searched, bestShare: byWords.length ? share(byWords[0]) : 0, ms: performance.now() - begin };
}

const calls = {
  parse, begin, clear, search,
  read: ({ count }) => read(count),
  prepare: ({ length }) => prepare(length),
  texts: ({ places }) => places.map((place) => searchedText(docs[place])),
  documents: ({ places }) => places.map((place) => docs[place]),
  keep: ({ places, values }) => keep(places, values),
};

self.onmessage = ({ data: { id, call, ...values } }) => {
  try { self.postMessage({ id, answer: calls[call](values) }); } catch (error) { self.postMessage({ id, error: String(error.message ?? error) }); }
};
