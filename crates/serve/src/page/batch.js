// Many pairs, or one query and many documents: sent in parts, shown as they come, kept when cancelled.

import { $, bdi, download, el, isBroken, isLost, notice, oneLine } from "./dom.js";
import { post } from "./api.js";
import { answer, initFile, isAsking, openFile } from "./file.js";
import { int, many, size, t } from "./i18n.js";
import { csvText, parseDocuments, parsePairs } from "./parse.js";
import { four, mix, percent, verdict } from "./scores.js";
import { changes, state } from "./state.js";
import { sendAll } from "./parts.js";
import { VirtualTable } from "./table.js";

const MAX_ROWS = 100_000;
/** A text area with more than this is slow to lay out: larger texts are held beside it. */
const AREA_CHARS = 300_000;

/**
 * Where the texts come from, if not from what was typed: `{name, size, encoding?, text, shown, edited}`. `name` is empty for what was
 * pasted; what is `shown` is in the field too, and once it is `edited` the field counts.
 */
let held = null;
/** Counts files that were chosen: of two, the later one counts, however long the earlier one takes to read. */
let chosen = 0;
let run = null;
let rows = [];
let table = null;
let onOpen = () => {};

export function initBatch(open) {
  onOpen = open;
  $("batch-form").addEventListener("submit", (event) => { event.preventDefault(); start(); });
  $("batch-cancel").addEventListener("click", () => run?.controller.abort());
  initFile();
  $("batch-clear").addEventListener("click", () => { clear(); $("data").focus(); });
  $("batch-file-button").addEventListener("click", () => $("batch-file").click());
  $("batch-file").addEventListener("change", async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    if (files.length) await take(files);
  });
  for (const radio of document.getElementsByName("mode")) radio.addEventListener("change", () => { words(); describe(); });
  const data = $("data");
  data.addEventListener("input", () => {
    if (held?.shown) held.edited = true;
    if (held && (held.shown ? data.value === "" : data.value !== "")) held = null;
    answer(null);
    describe();
  });
  data.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (data.value.length + text.length <= AREA_CHARS) return;
    event.preventDefault();
    const { selectionStart: from, selectionEnd: to, value } = data;
    answer(null);
    hold({ name: "", text: value.slice(0, from) + text + value.slice(to) });
  });
  const drop = $("drop");
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) await take(files);
    else { answer(null); hold({ name: "", text: event.dataTransfer.getData("text/plain") }); }
  });
  $("csv").addEventListener("click", () => download("trivec-scores.csv", "text/csv;charset=utf-8", csv()));
  $("jsonl").addEventListener("click", () => download("trivec-scores.jsonl", "application/x-ndjson", jsonl()));
  $("query").addEventListener("input", describe);
  changes.addEventListener("lang", () => { words(); describe(); table?.build(); progress(); });
  changes.addEventListener("weights", () => table?.resort());
  changes.addEventListener("thresholds", () => table?.resort());
  words();
}

const mode = () => document.querySelector('input[name="mode"]:checked').value;

function words() {
  $("data-label").textContent = t(`batch.data.${mode()}`);
  $("data").placeholder = mode() === "pairs" ? "苹果公司发布新手机,Apple launched a new iPhone\n\"a text, with a comma\",another" : "Apple launched a new iPhone\n今天天气很好";
  $("query-field").hidden = mode() !== "documents";
}

function clear() {
  answer(null);
  held = null;
  $("data").value = "";
  notice($("batch-error"), "");
  describe();
}

/** Reads the first file in the place of what was there. */
async function take(files) {
  clear();
  const turn = ++chosen;
  if (files.length > 1) notice($("batch-error"), t("file.first", { n: int(files.length), name: oneLine(files[0].name) }));
  const found = await openFile(files[0], (problem) => { if (turn === chosen) notice($("batch-error"), problem); }, $("data-note"));
  if (found && turn === chosen) hold(found);
}

function hold(what) {
  held = { ...what, shown: what.text.length <= AREA_CHARS, edited: false };
  $("data").value = held.shown ? held.text : "";
  describe();
}

/** What a text area makes of line ends is no part of what a file says, until someone edits it there. */
const source = () => (held && !held.edited ? held.text : $("data").value);

function parsed() {
  const text = source();
  if (text.trim() === "") return { format: "", rows: [] };
  return (mode() === "pairs" ? parsePairs : parseDocuments)(text, held?.name ?? "");
}

/** Says under the field what is there, where it comes from, and what about it a person should know. */
function describe() {
  const { format, rows: found, columns } = parsed();
  const parts = [];
  if (held?.name) {
    parts.push(many("batch.file.rows", found.length, { name: held.name, size: size(held.size) }));
    if (held.encoding) parts.push(t("batch.decoded", { encoding: t(`encoding.${held.encoding}`) }));
    if (held.edited) parts.push(t("batch.edited"));
  } else if (format) parts.push(many("batch.rows", found.length));
  if (format) parts.push(t("batch.read", { format: t(`format.${format}`) }));
  if (columns) parts.push(t(`batch.columns.${mode()}`, { n: int(columns) }));
  if (held && !held.shown) parts.push(t("batch.held", { n: int(held.text.length), max: int(AREA_CHARS) }));
  $("data-note").textContent = parts.join(t("sentence"));
  const lost = found.filter((row) => isLost(row.b) || (row.a !== undefined && isLost(row.a))).length;
  const ofQuery = mode() === "documents" && isLost($("query").value) ? t("lost", { which: t("batch.query") }) : "";
  notice($("batch-lost"), lost ? many("batch.lost", lost) : ofQuery);
}

async function start() {
  notice($("batch-error"), "");
  const isDocuments = mode() === "documents";
  const query = $("query").value;
  const { rows: found } = parsed();
  const problem = isAsking() ? t("encoding.first") : found.length === 0 ? t("batch.none")
    : isDocuments && query === "" ? t("batch.noquery")
      : found.length > MAX_ROWS ? t(`batch.toomany.${mode()}`, { rows: int(found.length), max: int(MAX_ROWS) }) : null;
  if (problem) { notice($("batch-error"), problem); return; }
  run?.controller.abort();
  rows = found.map((row, index) => {
    const a = isDocuments ? query : row.a;
    const error = row.error ?? (isBroken(a) || isBroken(row.b) ? "batch.broken" : null);
    return { index, a, b: row.b, lost: isLost(a) || isLost(row.b), error: error && t(error, { line: row.line, entry: row.entry }), scores: null };
  });
  table ??= new VirtualTable($("table"), columns(), () => t("batch.table"));
  table.setRows(rows);
  const waiting = rows.filter((row) => !row.error);
  const mine = run = {
    controller: new AbortController(), started: performance.now(), all: rows.length, done: rows.length - waiting.length, unscorable: rows.length - waiting.length,
    waitUntil: 0, state: "running", query: isDocuments ? query : null, drawn: 0,
  };
  $("batch-progress").hidden = false;
  $("batch-cancel").disabled = false;
  $("csv").disabled = $("jsonl").disabled = true;
  progress();
  try {
    await sendAll(waiting, {
      signal: mine.controller.signal,
      chars: (row) => row.a.length + row.b.length,
      send: (part) => send(part, mine),
      refused: (row, error) => { row.error = error.message; },
      done: (part) => { mine.done += part.length; drawSome(mine); },
      waits: (until) => { mine.waitUntil = until; if (run === mine) progress(); },
    });
    mine.state = "done";
  } catch (error) {
    mine.controller.abort();
    mine.state = error.name === "AbortError" ? "cancelled" : "stopped";
    if (error.name !== "AbortError") notice($("batch-error"), error.message);
  }
  if (run !== mine) return;
  mine.seconds = (performance.now() - mine.started) / 1000;
  $("batch-cancel").disabled = true;
  $("csv").disabled = $("jsonl").disabled = false;
  table.resort();
  progress();
  $("announce").textContent = $("batch-status").textContent;
}

async function send(part, mine) {
  const body = mine.query === null ? { pairs: part.map((row) => [row.a, row.b]) } : { query: mine.query, documents: part.map((row) => row.b) };
  const { answer } = await post("v1/score", body, mine.controller.signal);
  for (const scores of answer.data) if (part[scores.index]) part[scores.index].scores = scores;
}

function drawSome(mine) {
  if (run !== mine || performance.now() - mine.drawn <= 250) return;
  mine.drawn = performance.now();
  progress();
  if (table.key) table.resort(); else table.render();
}

function progress() {
  if (!run) return;
  const { done, all } = run;
  $("bar").value = all ? done / all : 1;
  const seconds = (performance.now() - run.started) / 1000;
  // Rows that could not be scored took no time.
  const rate = (done - run.unscorable) / Math.max(seconds, 0.01);
  const pause = Math.ceil((run.waitUntil - performance.now()) / 1000);
  const failed = rows.filter((row) => row.error).length;
  const lost = rows.filter((row) => row.lost && row.scores).length;
  const extra = [failed ? many("batch.failed", failed) : null, lost ? many("batch.lost", lost) : null].filter(Boolean).map((part) => t("sentence") + part).join("");
  let text;
  if (run.state === "done") text = many("batch.done", done, { s: run.seconds?.toFixed(1) }) + extra;
  else if (run.state !== "running") text = t(`batch.${run.state}`, { done: int(rows.filter((row) => row.scores).length), all: int(all) }) + extra;
  else if (pause > 0) text = t("batch.waiting", { done: int(done), all: int(all), s: pause });
  else text = t("batch.running", { done: int(done), all: int(all), rate: int(Math.round(rate)), left: rate > 0 ? int(Math.ceil((all - done) / rate)) : "–" });
  $("batch-status").textContent = text;
}

const all = (row) => row.scores && mix(row.scores, state.weights)["colbert+sparse+dense"];
const dense = (row) => row.scores?.dense ?? null;
const word = (row) => (dense(row) === null ? null : verdict(dense(row), state.thresholds));

function columns() {
  const text = (key) => ({ key, label: () => t(`text.${key}`), value: (row) => row[key], cell: (row) => bdi(oneLine(row[key])) });
  const number = (key, value, label) => ({ key, right: true, label, value, cell: (row) => (row.scores ? four(value(row)) : "") });
  return [
    { key: "index", right: true, label: () => t("col.index"), value: (row) => row.index, cell: (row) => String(row.index + 1) },
    text("a"), text("b"),
    {
      key: "percent", right: true, label: () => t("col.percent"), value: dense, tone: (row) => word(row) ?? "",
      cell: (row) => (dense(row) === null ? "" : percent(dense(row), state.thresholds)),
    },
    {
      key: "verdict", label: () => t("col.verdict"), value: (row) => word(row), tone: (row) => (row.error ? "fail" : word(row) ?? ""),
      title: (row) => row.error ?? (row.lost ? t("batch.lost.row") : ""),
      cell: (row) => row.error ?? (word(row) ? `${t(`verdict.${word(row)}`)}${row.lost ? " \ufffd" : ""}` : ""),
    },
    number("sparse", (row) => row.scores?.sparse ?? null, () => t("col.sparse")),
    number("colbert", (row) => row.scores?.colbert ?? null, () => t("col.colbert")),
    number("all", all, () => t("col.all")),
    {
      key: "open", label: () => t("batch.open"),
      cell: (row) => el("button", { type: "button", text: t("batch.open"), "aria-label": t("batch.open.label", { n: row.index + 1 }), onclick: () => onOpen(row.a, row.b) }),
    },
  ];
}

/** A row of the downloads, in the order that the table shows. */
function record(row) {
  const mixed = row.scores ? mix(row.scores, state.weights) : {};
  return {
    index: row.index, a: row.a, b: row.b,
    percent: dense(row) === null ? null : Number(percent(dense(row), state.thresholds)), verdict: word(row),
    dense: mixed.dense ?? null, sparse: mixed.sparse ?? null, colbert: mixed.colbert ?? null,
    "sparse+dense": mixed["sparse+dense"] ?? null, "colbert+sparse+dense": mixed["colbert+sparse+dense"] ?? null,
    tokens: row.scores?.tokens ?? null, truncated: row.scores?.truncated ?? null, error: row.error,
    note: row.lost ? t("batch.lost.row") : null,
  };
}

const records = () => table.order.map((i) => record(rows[i]));

function* csv() {
  const heads = ["index", "a", "b", "percent", "verdict", "dense", "sparse", "colbert", "sparse+dense", "colbert+sparse+dense", "tokens_a", "tokens_b", "truncated_a", "truncated_b", "error", "note"];
  // The mark tells spreadsheets that this is UTF-8.
  yield `\ufeff${heads.join(",")}\r\n`;
  for (const { tokens, truncated, ...row } of records()) {
    const cells = [...heads.slice(0, 10).map((name) => row[name]), tokens?.[0], tokens?.[1], truncated?.[0], truncated?.[1], row.error, row.note];
    yield `${cells.map((cell) => (cell === null || cell === undefined ? "" : typeof cell === "string" ? csvText(cell) : String(cell))).join(",")}\r\n`;
  }
}

function* jsonl() {
  for (const row of records()) yield `${JSON.stringify(row)}\n`;
}
