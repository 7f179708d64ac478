// The search view: an index of the service, or texts of one's own that are searched at once.

import { $, el, isBroken, notice, oneLine } from "./dom.js";
import { get, post } from "./api.js";
import { Corpus, read } from "./corpus.js";
import { answer as answerEncoding, isAsking, openFile } from "./file.js";
import { clearHits, firstHit, focusHit, say, showHits, summary } from "./hits.js";
import { int, many, size, t } from "./i18n.js";
import { changes } from "./state.js";

const MAX_DOCS = 100_000;
/** A text area with more than this is slow to lay out: larger texts are held beside it. */
const AREA_CHARS = 300_000;
/** How many hits are shown, one after another press of "more". */
const TOPS = [10, 20, 50, 100];

/** `reading` is what the text that is there now is read as: `{text, found}`, a promise. */
const own = { corpus: null, held: null, label: null, reading: null, turn: 0 };
let indexes = null;
let run = null;
let top = TOPS[0];
/** Whether somebody has said where to search: then what the service has changes nothing. */
let isChosen = false;
let compareIn = () => {};

export function initSearch(open) {
  compareIn = open;
  $("search-form").addEventListener("submit", (event) => { event.preventDefault(); top = TOPS[0]; start(); });
  $("search-query").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && firstHit()) { event.preventDefault(); focusHit(firstHit()); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || $("view-search").hidden || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    $("search-query").focus();
  });
  for (const radio of document.getElementsByName("search-source")) radio.addEventListener("change", () => { isChosen = true; source(); });
  $("search-index").addEventListener("change", describeIndex);
  $("search-sample").addEventListener("click", trySample);
  $("search-clear").addEventListener("click", () => { clearOwn(); $("search-texts").value = ""; describe(); $("search-texts").focus(); });
  $("search-stop").addEventListener("click", () => { own.corpus?.stop(); progress(); });
  $("search-file-button").addEventListener("click", () => $("search-file").click());
  $("search-file").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    take(files);
  });
  const area = $("search-texts");
  area.addEventListener("input", () => { if (own.held && area.value !== "") own.held = null; answerEncoding(null); describe(); });
  area.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (area.value.length + text.length <= AREA_CHARS) return;
    event.preventDefault();
    hold({ name: "", text: area.value + text });
  });
  const drop = $("search-own");
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else hold({ name: "", text: event.dataTransfer.getData("text/plain") });
  });
  changes.addEventListener("lang", () => { describe(); describeIndex(); progress(); if (run?.answer) show(run); });
  source();
  describe();
}

/** The view is opened: which indexes there are is asked once, and again after a failure. */
export async function openSearch() {
  if (indexes) return;
  try {
    indexes = (await get("v1/status")).indexes ?? [];
  } catch (error) {
    notice($("search-error"), error.message);
    return;
  }
  $("search-index").replaceChildren(...indexes.map(({ name }) => el("option", { value: name, text: oneLine(name, 60) })));
  $("search-sources").hidden = indexes.length === 0;
  $("search-index").hidden = indexes.length < 2;
  if (indexes.length === 0 || isChosen || own.corpus || own.held || $("search-texts").value !== "") return;
  document.querySelector('input[name="search-source"][value="index"]').checked = true;
  source();
}

const sourceName = () => document.querySelector('input[name="search-source"]:checked').value;

function source() {
  const isIndex = usesIndex();
  $("search-own").hidden = isIndex;
  $("search-filters").hidden = !isIndex;
  showIntro();
  if (isIndex) describeIndex();
  stop();
}

/** The languages of the index, of which one can be asked for alone. */
async function describeIndex() {
  if (!(indexes?.length > 0)) return;
  const name = $("search-index").value || indexes[0].name;
  try {
    const found = await get(`v1/index?index=${encodeURIComponent(name)}`);
    const before = $("search-lang").value;
    $("search-lang").replaceChildren(el("option", { value: "", text: t("search.lang.any") }),
      ...found.languages.map((lang) => el("option", { value: lang, text: languageName(lang) })));
    $("search-lang").value = found.languages.includes(before) ? before : "";
    $("search-index-note").textContent = many("search.index.note", found.documents, { name: oneLine(found.index, 60), languages: int(found.languages.length) });
  } catch (error) {
    $("search-index-note").textContent = error.message;
  }
}

function languageName(code) {
  try { return `${new Intl.DisplayNames([document.documentElement.lang], { type: "language" }).of(code)} (${code})`; } catch { return code; }
}

function stop() {
  run?.controller.abort();
  run = null;
  clearHits();
  say("");
  notice($("search-error"), "");
}

function clearOwn() {
  answerEncoding(null);
  own.corpus?.stop();
  Object.assign(own, { corpus: null, held: null, label: null, reading: null });
  own.turn++;
  stop();
  progress();
}

async function take(files) {
  if (files.length === 0) return;
  clearOwn();
  const turn = own.turn;
  if (files.length > 1) notice($("search-error"), t("file.first", { n: int(files.length), name: oneLine(files[0].name) }));
  const found = await openFile(files[0], (problem) => { if (turn === own.turn) notice($("search-error"), problem); }, $("search-note"));
  if (found && turn === own.turn) hold(found);
}

function hold(what) {
  const isShown = what.text.length <= AREA_CHARS;
  $("search-texts").value = isShown ? what.text : "";
  // What a text area makes of line ends is no part of what a file says.
  own.held = isShown && !what.name ? null : what;
  describe();
}

const text = () => own.held?.text ?? $("search-texts").value;

/** Reads what is there, if that was not done: `{format, count, rows}`. */
function reading() {
  const [now, name] = [text(), own.held?.name ?? ""];
  if (own.reading?.text !== now || own.reading.name !== name) own.reading = { text: now, name, found: read(now, name) };
  return own.reading.found;
}

async function describe() {
  showIntro();
  const found = reading();
  const { format, rows } = await found;
  // Another text has come meanwhile.
  if (own.reading?.found !== found) return;
  const { held } = own;
  const parts = [];
  if (format) {
    parts.push(held?.name ? many("batch.file.rows", rows, { name: held.name, size: size(held.size) }) : many("search.texts", rows));
    if (held?.encoding) parts.push(t("batch.decoded", { encoding: t(`encoding.${held.encoding}`) }));
    parts.push(t("batch.read", { format: t(`format.${format}`) }));
    if (held && $("search-texts").value === "") parts.push(t("batch.held", { n: int(held.text.length), max: int(AREA_CHARS) }));
  }
  $("search-note").textContent = parts.join(t("sentence"));
}

const usesIndex = () => sourceName() === "index" && indexes?.length > 0;

function showIntro() {
  $("search-intro").hidden = usesIndex() || own.corpus !== null || text().trim() !== "";
}

/** Begins to embed the `count` documents that were read last. */
function corpusOf(count, label) {
  own.corpus?.stop();
  own.label = label;
  // They are no draft any more: the same text would be read again.
  own.reading = null;
  const corpus = own.corpus = new Corpus(count);
  corpus.begun = new Promise((resolve) => { corpus.begin = resolve; });
  corpus.ready = corpus.load(() => { if (own.corpus === corpus) progress(); }).catch((error) => {
    if (error.name === "AbortError") return;
    corpus.state = "stopped";
    if (own.corpus === corpus) notice($("search-error"), error.message);
  }).finally(() => { if (own.corpus === corpus) progress(); });
  progress();
  return corpus;
}

/** The bundled sample, and a question about it in another language. */
async function trySample() {
  isChosen = true;
  const { QUESTIONS, SAMPLE } = await import("./sample.js");
  clearOwn();
  hold({ name: "", text: SAMPLE.map((doc) => JSON.stringify(doc)).join("\n") });
  await prepare();
  $("search-questions").replaceChildren(...QUESTIONS.map(({ lang, text }) => el("button", {
    type: "button", class: "chip", lang, dir: "auto", text, onclick: () => { $("search-query").value = text; top = TOPS[0]; start(); },
  })));
  $("search-query").value = QUESTIONS[0].text;
  top = TOPS[0];
  await start();
}

async function start() {
  notice($("search-error"), "");
  const query = $("search-query").value;
  const isIndex = usesIndex();
  const problem = isAsking() ? t("encoding.first") : query.trim() === "" ? t("batch.noquery") : isBroken(query) ? t("broken", { which: t("batch.query") }) : isIndex ? null : await prepare();
  if (problem) { notice($("search-error"), problem); if (!isAsking()) $("search-query").focus(); return; }
  run?.controller.abort();
  const mine = run = { query, isIndex, controller: new AbortController(), answer: null };
  $("view-search").setAttribute("aria-busy", "true");
  try {
    mine.answer = isIndex ? await ofIndex(mine) : await ofOwn(mine);
    if (run === mine) show(mine);
  } catch (error) {
    if (error.name === "AbortError" || run !== mine) return;
    clearHits();
    say("");
    notice($("search-error"), error.status === 429 && error.retryAfter !== null ? t("error.busy", { s: Math.ceil(error.retryAfter), message: error.message }) : error.message);
    if (error.param === "filter") $("search-filter").focus();
  } finally {
    if (run === mine) $("view-search").removeAttribute("aria-busy");
  }
}

/** Makes a corpus of what is in the field, if it is not the one that there is. Resolves to what is in the way. */
async function prepare() {
  const typed = text();
  if (typed.trim() === "") return own.corpus ? null : t("search.none");
  if (own.corpus && own.label === typed) return null;
  const { count } = await reading();
  // While it was read, another text may have come, or the same question again.
  if (text() !== typed) return prepare();
  if (own.corpus && own.label === typed) return null;
  if (count === 0) return t("search.none");
  if (count > MAX_DOCS) return t("search.toomany", { n: int(count), max: int(MAX_DOCS) });
  $("search-questions").replaceChildren();
  corpusOf(count, typed);
  return null;
}

async function ofIndex({ query, controller }) {
  const conditions = [$("search-filter").value.trim(), $("search-lang").value ? `lang = ${JSON.stringify($("search-lang").value)}` : ""].filter(Boolean);
  const filter = conditions.length > 1 ? `(${conditions[0]}) and ${conditions[1]}` : conditions[0];
  const index = $("search-index").value || undefined;
  return (await post("v1/search", { query, index, top, filter, explain: true }, controller.signal)).answer;
}

/** Searches what has its vectors, and again when all have. */
async function ofOwn(mine) {
  const { corpus } = own;
  // Few texts are there in a moment: what one would see of a part of them is of no use.
  if (corpus.count <= 2000) await corpus.ready;
  else await Promise.race([corpus.ready, corpus.begun]);
  mine.controller.signal.throwIfAborted();
  if (corpus.state === "running") {
    corpus.ready.then(async () => {
      if (run !== mine || own.corpus !== corpus || corpus.state !== "done") return;
      const answer = await corpus.search(mine.query, top, mine.controller.signal).catch(() => null);
      if (answer && run === mine) { mine.answer = answer; show(mine); }
    });
  }
  return corpus.search(mine.query, top, mine.controller.signal);
}

function show(mine) {
  const { answer, query } = mine;
  const next = TOPS[TOPS.indexOf(top) + 1];
  const more = next && answer.hits.length === top ? () => { top = next; start(); } : null;
  showHits(answer, { query, more, compareIn });
  say(answer.hits.length ? summary(answer) : t(answer.in_chunks ? "search.nothing.entries" : "search.nothing", { all: int(answer.searched) }));
}

function progress() {
  const { corpus } = own;
  $("search-progress").hidden = !corpus;
  showIntro();
  if (!corpus) return;
  if (corpus.done) corpus.begin();
  const { done, count, refused, state } = corpus;
  $("search-bar").hidden = $("search-stop").hidden = state !== "running";
  $("search-bar").value = count ? done / count : 1;
  const seconds = Math.max(0.01, (performance.now() - corpus.started) / 1000);
  const pause = Math.ceil((corpus.waitUntil - performance.now()) / 1000);
  const bad = refused.size ? t("sentence") + many("batch.failed", refused.size) : "";
  if (state === "done") $("search-status").textContent = many("search.ready", done - refused.size, { s: corpus.seconds.toFixed(1) }) + bad;
  else if (state === "stopped") $("search-status").textContent = t("search.stopped", { done: int(done), all: int(count) }) + bad;
  else if (pause > 0) $("search-status").textContent = t("batch.waiting", { done: int(done), all: int(count), s: pause });
  else $("search-status").textContent = t("batch.running", { done: int(done), all: int(count), rate: int(Math.round(done / seconds)), left: done ? int(Math.ceil((count - done) / (done / seconds))) : "–" });
}
