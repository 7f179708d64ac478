// Pasted or dropped tables: CSV, TSV, JSONL or plain lines to rows. No row is dropped: one that cannot be scored keeps its error.

const NAMES_A = ["a", "text_a", "text1", "sentence1", "query", "left"];
const NAMES_B = ["b", "text_b", "text2", "sentence2", "document", "passage", "right"];
const NAMES_TEXT = ["text", "document", "passage", "content", "b"];

/**
 * Records of a delimited text (RFC 4180: quotes, doubled quotes, line breaks inside quotes). A quote that does not open a well-formed
 * field is an ordinary character, so that `"so" he said` is kept as it is. Empty lines are skipped.
 */
export function delimited(text, separator) {
  const records = [];
  let record = [];
  let i = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  let quotes = true;
  const ends = (c) => c === separator || c === "\n" || c === "\r" || c === undefined;
  while (i < text.length) {
    let field = null;
    if (text[i] === '"' && quotes) {
      const [value, next] = quoted(text, i);
      if (next === text.length + 1) quotes = false;
      else if (ends(text[next])) [field, i] = [value, next];
    }
    if (field === null) {
      const start = i;
      while (i < text.length && text[i] !== separator && text[i] !== "\n" && text[i] !== "\r") i++;
      field = text.slice(start, i);
    }
    record.push(field);
    if (text[i] === separator) {
      i++;
      if (i === text.length) record.push("");
      else continue;
    }
    if (text[i] === "\r" && text[i + 1] === "\n") i++;
    i++;
    if (record.length > 1 || record[0] !== "") records.push(record);
    record = [];
  }
  return records;
}

/** The field that opens at `start`, and where it ends; `text.length + 1` if it never closes. */
function quoted(text, start) {
  let value = "";
  let from = start + 1;
  for (;;) {
    const close = text.indexOf('"', from);
    if (close < 0) return ["", text.length + 1];
    value += text.slice(from, close);
    if (text[close + 1] !== '"') return [value, close + 1];
    value += '"';
    from = close + 2;
  }
}

const LINES = /\r\n?|\n/;

/** `json`, `jsonl`, `tsv`, `csv` or `lines`: by the file's name, else by the text's first line, as the command line has it (crates/cli/src/input/form.rs). */
export function formatOf(text, name = "", documents = false) {
  const ending = /\.(csv|tsv|tab|jsonl|ndjson|jsonlines|json)$/i.exec(name)?.[1].toLowerCase();
  if (ending === "csv") return "csv";
  if (ending === "tsv" || ending === "tab") return "tsv";
  const start = text.slice(0, 100_000).replace(/^\ufeff/, "");
  const first = (start.split(LINES).find((line) => line.trim() !== "") ?? "").trim();
  const found = jsonOf(first, documents);
  if (found) return found;
  if (ending) return ending === "json" ? "json" : "jsonl";
  if (isHeader(first)) return first.includes("\t") && !first.includes(",") ? "tsv" : "csv";
  if (documents) return "lines";
  if (first.includes("\t")) return "tsv";
  return "csv";
}

/** What a first line that begins with a list or an object is: `jsonl` if it is a record, `json` if it is a part of something else; or `null`. */
function jsonOf(line, documents) {
  if (!/^[[{]/.test(line)) return null;
  const end = endOf(line, 0);
  // Brackets alone, or before what a value begins with.
  if (end < 0) return !line.includes("\t") && /^([[{]\s*)+("|[-\d\]}]|$)/.test(line) ? "json" : null;
  if (!isJson(line.slice(0, end))) return null;
  const rest = line.slice(end).trim();
  if (line.startsWith("{")) return rest === "" ? "jsonl" : rest.startsWith("{") ? "json" : null;
  if (rest !== "") return null;
  const inside = line.slice(1).trimStart()[0];
  if (inside === '"') return documents ? "json" : "jsonl";
  return "{[]".includes(inside) ? "json" : null;
}

/** Where the value that begins at `at` ends, as brackets and quotes tell it; -1 if it does not. */
function endOf(text, at) {
  const part = /["[\]{}\\,\s]/g;
  let [depth, inText] = [0, false];
  for (part.lastIndex = at; ;) {
    const found = part.exec(text);
    if (!found) return depth === 0 && !inText && at < text.length ? text.length : -1;
    const character = found[0];
    if (character === "\\") part.lastIndex++;
    else if (character === '"') {
      inText = !inText;
      if (!inText && depth === 0) return found.index + 1;
    } else if (inText) continue;
    else if (character === "[" || character === "{") depth++;
    else if (character === "]" || character === "}") {
      if (depth <= 1) return depth === 1 ? found.index + 1 : found.index;
      depth--;
    } else if (depth === 0) return found.index;
  }
}

/** Names of columns that stand beside a column `text`. A first line of such names alone is a header. */
const BESIDE_TEXT = new Set(["id", "_id", "doc_id", "docid", "uuid", "index", "label", "title", "url", "lang", "language", "category", "source", "score", "date", "author"]);

function isHeader(line) {
  const separator = [",", "\t", ";"].find((separator) => line.includes(separator));
  const names = separator ? line.split(separator).map((name) => name.replace(/^"(.*)"$/, "$1")) : [];
  return names.includes("text") && names.some((name) => BESIDE_TEXT.has(name)) && names.every((name) => /^[a-z\d_]+$/.test(name));
}

function isJson(text) {
  try { JSON.parse(text.replace(/^\ufeff/, "")); return true; } catch { return false; }
}

const pick = (object, names) => {
  for (const name of names) if (typeof object[name] === "string") return object[name];
  return null;
};

/** Values with their place: `{line, value}` of those that stand alone, `{entry, value}` of a list's; `{line, raw}` for what is no JSON. */
function jsonValues(text, documents, format) {
  const body = text.replace(/^\ufeff/, "");
  if (isJson(body)) {
    const whole = JSON.parse(body);
    // A list of two texts is one pair, and two documents.
    const isPair = !documents && typeof whole?.[0] === "string";
    if (Array.isArray(whole) && !isPair) return whole.map((value, i) => ({ entry: i + 1, value }));
    return [{ line: 1, value: whole }];
  }
  return format === "json" ? valuesAt(body, documents) : valuesOfLines(body);
}

function valuesOfLines(body) {
  const values = [];
  body.split(LINES).forEach((line, i) => {
    if (line.trim() === "") return;
    try { values.push({ line: i + 1, value: JSON.parse(line) }); } catch { values.push({ line: i + 1, raw: line }); }
  });
  return values;
}

/** Values one after another, over any lines; of a list of values, its elements. What stands after a fault is one row with it. */
function valuesAt(body, documents) {
  const values = [];
  let [at, line, counted] = [0, 1, 0];
  for (;;) {
    at += /^\s*/.exec(body.slice(at, at + 1000))[0].length;
    if (/\s/.test(body[at] ?? "")) continue;
    if (at >= body.length) return values;
    line += body.slice(counted, at).split(LINES).length - 1;
    counted = at;
    const end = endOf(body, at);
    const raw = body.slice(at, end <= at ? undefined : end);
    let value;
    try { value = JSON.parse(raw); } catch { return [...values, { line, raw: body.slice(at) }]; }
    const isList = Array.isArray(value) && (documents || typeof value[0] !== "string");
    if (isList) value.forEach((value, i) => values.push({ entry: i + 1, value }));
    else values.push({ line, value });
    at = end;
  }
}

/** Where in a JSON text a value without the texts stands, for its error. */
const place = ({ line, entry }) => (entry ? { error: "batch.badentry", entry } : { error: "batch.badjson", line });

function pairOf(value) {
  if (Array.isArray(value)) return typeof value[0] === "string" && typeof value[1] === "string" ? [value[0], value[1]] : null;
  if (value === null || typeof value !== "object") return null;
  const [a, b] = [pick(value, NAMES_A), pick(value, NAMES_B)];
  return a === null || b === null ? null : [a, b];
}

/** What a document is called and what stands beside it, where an object or a row says. */
const NAMES_OF = { key: ["key", "id", "_id", "doc_id", "docid", "uuid"], title: ["title"], lang: ["lang", "language"] };

function beside(object) {
  const found = {};
  for (const [field, names] of Object.entries(NAMES_OF)) {
    const name = names.find((name) => (typeof object[name] === "string" && object[name] !== "") || typeof object[name] === "number");
    if (name) found[field] = String(object[name]);
  }
  return found;
}

function documentOf(value) {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.length === 1 && typeof value[0] === "string" ? value[0] : null;
  return value !== null && typeof value === "object" ? pick(value, NAMES_TEXT) : null;
}

/**
 * `{format, rows: [{a, b, error?}], columns?}`. `error` is a key of the page's words, with `line` or `entry` where it has one. `columns`
 * says how many a table has whose headings do not say which of them are meant: then the first are taken.
 */
export function parsePairs(text, name = "") {
  const format = formatOf(text, name);
  if (format === "jsonl" || format === "json") {
    const rows = jsonValues(text, false, format).map((at) => {
      const pair = at.raw === undefined ? pairOf(at.value) : null;
      return pair ? { a: pair[0], b: pair[1] } : { a: at.raw ?? JSON.stringify(at.value), b: "", ...place(at) };
    });
    return { format, rows };
  }
  const records = delimited(text, format === "tsv" ? "\t" : separatorOf(text));
  let [left, right] = [0, 1];
  const head = (records[0] ?? []).map((cell) => cell.trim().toLowerCase());
  const [ha, hb] = [head.findIndex((cell) => NAMES_A.includes(cell)), head.findIndex((cell) => NAMES_B.includes(cell))];
  const named = ha >= 0 && hb >= 0;
  if (named) {
    [left, right] = [ha, hb];
    records.shift();
  }
  const rows = records.map((record) => pairRow(record[left] ?? "", record[right]));
  return { format, rows, columns: !named && widest(records) > 2 ? widest(records) : undefined };
}

const pairRow = (a, b) => (b === undefined ? { a, b: "", error: "batch.short" } : { a, b });

const widest = (records) => records.reduce((most, record) => Math.max(most, record.length), 0);

/** Spreadsheets of many countries write semicolons, and some write tabs whatever the file's name says. */
function separatorOf(text) {
  const first = delimited(text.slice(0, 20_000), ",")[0] ?? [];
  return first.length > 1 ? "," : [";", "\t"].find((separator) => first[0]?.includes(separator)) ?? ",";
}

/** The same for documents: `rows` of `{b}`, with `named` also of `key`, `title` and `lang` where they have them. */
export function parseDocuments(text, name = "", named = false) {
  const format = formatOf(text, name, true);
  if (format === "jsonl" || format === "json") {
    const rows = jsonValues(text, true, format).map((at) => {
      const document = at.raw === undefined ? documentOf(at.value) : null;
      if (document === null) return { b: at.raw ?? JSON.stringify(at.value), ...place(at) };
      return named && typeof at.value === "object" ? { b: document, ...beside(at.value) } : { b: document };
    });
    return { format, rows };
  }
  if (format === "lines") {
    return { format, rows: text.replace(/^\ufeff/, "").split(LINES).filter((line) => line.trim() !== "").map((b) => ({ b })) };
  }
  const records = delimited(text, format === "tsv" ? "\t" : separatorOf(text));
  const head = (records[0] ?? []).map((cell) => cell.trim().toLowerCase());
  const column = head.findIndex((cell) => NAMES_TEXT.includes(cell));
  if (column >= 0) records.shift();
  const more = (record) => (named && column >= 0 ? beside(Object.fromEntries(head.map((cell, i) => [cell, record[i]]))) : {});
  const rows = records.map((record) => ({ b: record[Math.max(0, column)] ?? "", ...more(record) }));
  return { format, rows, columns: column < 0 && widest(records) > 1 ? widest(records) : undefined };
}

/** A CSV field. Text that a spreadsheet would run as a formula gets an apostrophe before it. */
export function csvText(text) {
  const safe = /^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text;
  return /[",;\t\r\n]|^'|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
