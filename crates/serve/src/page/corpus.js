// Texts of one's own, searched without an index on disk: the service makes vectors of them, the page keeps them and looks at every one.
//
// Nothing stays on the server: its limits and its queue are those of any request, and a question costs one vector and the scores of the
// best, however often one asks. The texts are in this tab alone.

import { ApiError, post, postBytes } from "./api.js";
import { int, t } from "./i18n.js";
import { sendAll } from "./parts.js";
import { hash, marked, words } from "./terms.js";

/** Best documents whose lexical and ColBERT scores are asked for. */
const RERANKED = 40;
const RERANK_SHARE = 0.3;
/** Documents whose words are read at a time: a worker's answer is never far. */
const READ = 2000;
const SNIPPET_CHARS = 320;

let worker = null;
let calls = 0;
const waiting = new Map();

function ask(call, values = {}, transfer = []) {
  if (!worker) {
    worker = new Worker(new URL("search.worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new ApiError(error));
    };
    worker.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new ApiError(event.message || "search.worker.js"));
      waiting.clear();
    };
  }
  const id = ++calls;
  const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  worker.postMessage({ id, call, ...values }, transfer);
  return answer;
}

/** Vectors of texts, one after another; every machine with a browser is little-endian, as the answer is. */
const vectorsOf = async (texts, signal) => new Float32Array(await postBytes("v1/encode", { input: texts, normalize: true }, "application/octet-stream", signal));

/** Reads texts, of which a [`Corpus`] can be made: `{format, count, rows}`. */
export const read = (text, name) => ask("parse", { text, name });

/** A document as it is shown: one without a key is called by its row. */
const named = (doc) => ({ ...doc, key: doc.key ?? t("search.row", { n: int(doc.row + 1) }) });

/** What was read last, `count` documents, to be searched. */
export class Corpus {
  constructor(count) {
    Object.assign(this, { count, done: 0, refused: new Map(), state: "new", waitUntil: 0, started: 0 });
    this.controller = new AbortController();
  }

  /** Gets the vectors of all documents; `changed` is called as it goes. */
  async load(changed) {
    const { signal } = this.controller;
    this.state = "running";
    this.started = performance.now();
    const { lengths, broken } = await ask("begin");
    for (let at = 0; at < this.count; at += READ) {
      signal.throwIfAborted();
      await ask("read", { count: READ });
    }
    for (const place of broken) this.refused.set(place, "search.broken");
    this.done = broken.length;
    let prepared = null;
    await sendAll([...lengths.keys()].filter((place) => !this.refused.has(place)), {
      signal,
      chars: (place) => lengths[place],
      send: async (part) => {
        const values = await vectorsOf(await ask("texts", { places: part }), signal);
        signal.throwIfAborted();
        // The first answer says how long vectors are.
        prepared ??= ask("prepare", { length: values.length / part.length });
        await prepared;
        await ask("keep", { places: part, values }, [values.buffer]);
      },
      refused: (place, error) => this.refused.set(place, error.message),
      done: (part) => { this.done += part.length; changed(); },
      waits: (until) => { this.waitUntil = until; changed(); },
    });
    this.state = "done";
    this.seconds = (performance.now() - this.started) / 1000;
    changed();
  }

  stop() {
    this.controller.abort();
    if (this.state === "running") this.state = "stopped";
  }

  /** The documents that answer a question, as the service's own answer has them. */
  async search(query, top, signal) {
    const begin = performance.now();
    const vector = await vectorsOf([query], signal);
    const encoded = performance.now();
    const { found, searched, bestShare, ms } = await ask("search", { vector, text: query, top });
    const places = found.map(({ doc }) => doc);
    const [texts, documents] = await Promise.all([ask("texts", { places: places.slice(0, RERANKED) }), ask("documents", { places })]);
    found.forEach((one, i) => { one.document = named(documents[i]); });
    signal.throwIfAborted();
    const first = found.slice(0, RERANKED);
    const reranking = performance.now();
    const scores = first.length ? (await post("v1/score", { query, documents: texts }, signal)).answer.data : [];
    for (const { index, dense, sparse, colbert, tokens } of scores) Object.assign(first[index], { exact: dense, sparse, colbert, tokens });
    const ranked = (name) => new Map([...first].filter((one) => one[name] > 0).sort((x, y) => y[name] - x[name]).map((one, i) => [one, i + 1]));
    const [bySparse, byColbert] = [ranked("sparse"), ranked("colbert")];
    const shown = (one) => (Number.isFinite(one.colbert) ? (Math.max(0, one.colbert) + RERANK_SHARE * one.share) / (1 + RERANK_SHARE) : one.fused);
    first.sort((x, y) => shown(y) - shown(x) || x.doc - y.doc);
    const wanted = new Set(words(query).map(hash));
    const hit = (one, i) => ({
      rank: i + 1, score: Math.min(1, shown(one)), document: one.document, lang: one.document.lang ?? "", tokens: one.tokens,
      arms: {
        dense: { rank: one.dense.rank, score: one.exact ?? one.dense.score }, bm25: one.bm25, share: one.share, fused: one.fused,
        sparse: bySparse.has(one) ? { rank: bySparse.get(one), score: one.sparse } : null,
        colbert: byColbert.has(one) ? { rank: byColbert.get(one), score: one.colbert } : null,
      },
      explanation: snippet(one.document.text, wanted),
    });
    return {
      hits: [...first, ...found.slice(RERANKED)].map(hit), searched, best_share: bestShare,
      timings: { encode_ms: encoded - begin, scan_ms: ms, rerank_ms: performance.now() - reranking, total_ms: performance.now() - begin },
    };
  }
}

/** The part of a text around the first of the question's words, with them marked. */
function snippet(text, wanted) {
  const parts = marked(text.length > 20_000 ? text.slice(0, 20_000) : text, wanted);
  let before = 0;
  for (const part of parts) {
    if (part.mark) break;
    before += part.text.length;
  }
  const found = parts.some((part) => part.mark);
  const from = found && before > SNIPPET_CHARS / 2 ? edge(text, before - SNIPPET_CHARS / 4) : 0;
  const to = edge(text, from + SNIPPET_CHARS);
  const cut = [];
  let at = 0;
  for (const part of parts) {
    const [start, end] = [Math.max(at, from), Math.min(at + part.text.length, to)];
    if (start < end) cut.push({ ...part, text: part.text.slice(start - at, end - at) });
    at += part.text.length;
  }
  return { words: [], snippet: cut, more_before: from > 0, more_after: to < text.length };
}

/** A place in a text that is no half of a character. */
function edge(text, at) {
  const place = Math.min(text.length, Math.floor(at));
  const unit = text.charCodeAt(place);
  return unit >= 0xdc00 && unit < 0xe000 ? place - 1 : place;
}
