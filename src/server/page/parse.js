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

/** `jsonl`, `tsv`, `csv` or `lines`: by the file's name, else by the first line. */
export function formatOf(text, name = "", documents = false) {
  const ending = /\.(csv|tsv|jsonl|ndjson|json|txt)$/i.exec(name)?.[1].toLowerCase();
  if (ending === "ndjson" || ending === "json") return "jsonl";
  if (ending && ending !== "txt") return ending;
  const first = text.slice(0, 100_000).split(/\r?\n/).find((line) => line.trim() !== "")?.replace(/^\ufeff/, "") ?? "";
  if (/^\s*[{[]/.test(first)) {
    try { JSON.parse(first); return "jsonl"; } catch { if (first.trim() === "[") return "jsonl"; }
  }
  if (documents) return "lines";
  if (first.includes("\t")) return "tsv";
  return "csv";
}

const pick = (object, names) => {
  for (const name of names) if (typeof object[name] === "string") return object[name];
  return null;
};

function jsonValues(text) {
  const body = text.replace(/^\ufeff/, "");
  if (body.trimStart().startsWith("[")) {
    try {
      const whole = JSON.parse(body);
      // A file with the single line ["a","b"] is one pair, not a list of two documents' worth of rows.
      if (!(whole.length === 2 && whole.every((x) => typeof x === "string") && !body.trim().includes("\n"))) {
        return whole.map((value, i) => ({ line: i + 1, value }));
      }
    } catch { /* one value a line */ }
  }
  const values = [];
  body.split(/\r?\n/).forEach((line, i) => {
    if (line.trim() === "") return;
    try { values.push({ line: i + 1, value: JSON.parse(line) }); } catch { values.push({ line: i + 1, raw: line }); }
  });
  return values;
}

function pairOf(value) {
  if (Array.isArray(value)) return typeof value[0] === "string" && typeof value[1] === "string" ? [value[0], value[1]] : null;
  if (value === null || typeof value !== "object") return null;
  const [a, b] = [pick(value, NAMES_A), pick(value, NAMES_B)];
  return a === null || b === null ? null : [a, b];
}

function documentOf(value) {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return typeof value[0] === "string" ? value[0] : null;
  return value !== null && typeof value === "object" ? pick(value, NAMES_TEXT) : null;
}

/** `{format, rows: [{a, b, error?}]}`. `error` is a key of the page's words, with `line` where it has one. */
export function parsePairs(text, name = "") {
  const format = formatOf(text, name);
  if (format === "jsonl") {
    const rows = jsonValues(text).map(({ line, value, raw }) => {
      const pair = raw === undefined ? pairOf(value) : null;
      return pair ? { a: pair[0], b: pair[1] } : { a: raw ?? JSON.stringify(value), b: "", error: "batch.badjson", line };
    });
    return { format, rows };
  }
  const records = delimited(text, format === "tsv" ? "\t" : separatorOf(text));
  let [left, right] = [0, 1];
  const head = (records[0] ?? []).map((cell) => cell.trim().toLowerCase());
  const [ha, hb] = [head.findIndex((cell) => NAMES_A.includes(cell)), head.findIndex((cell) => NAMES_B.includes(cell))];
  if (ha >= 0 && hb >= 0) {
    [left, right] = [ha, hb];
    records.shift();
  }
  return { format, rows: records.map((record) => pairRow(record[left] ?? "", record[right])) };
}

const pairRow = (a, b) => (b === undefined ? { a, b: "", error: "batch.short" } : { a, b });

/** Spreadsheets of many countries write semicolons. */
function separatorOf(text) {
  const first = delimited(text.slice(0, 20_000), ",")[0] ?? [];
  return first.length === 1 && first[0].includes(";") ? ";" : ",";
}

/** The same for documents: `rows` of `{b}`. */
export function parseDocuments(text, name = "") {
  const format = formatOf(text, name, true);
  if (format === "jsonl") {
    const rows = jsonValues(text).map(({ line, value, raw }) => {
      const document = raw === undefined ? documentOf(value) : null;
      return document === null ? { b: raw ?? JSON.stringify(value), error: "batch.badjson", line } : { b: document };
    });
    return { format, rows };
  }
  if (format === "lines" || format === "txt") {
    return { format: "lines", rows: text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim() !== "").map((b) => ({ b })) };
  }
  const records = delimited(text, format === "tsv" ? "\t" : separatorOf(text));
  const head = (records[0] ?? []).map((cell) => cell.trim().toLowerCase());
  const named = head.findIndex((cell) => NAMES_TEXT.includes(cell));
  if (named >= 0) records.shift();
  return { format, rows: records.map((record) => ({ b: record[Math.max(0, named)] ?? "" })) };
}

/** A CSV field. Text that a spreadsheet would run as a formula gets an apostrophe before it. */
export function csvText(text) {
  const safe = /^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text;
  return /[",;\t\r\n]|^'|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
