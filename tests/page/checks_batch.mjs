// Ten thousand rows: read, scored, cancelled, sorted, scrolled, downloaded. And what the readers of tables make of odd files.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { csvText, delimited, parseDocuments, parsePairs } from "../../crates/serve/src/page/parse.js";
import { buckets, quantile, since } from "../../crates/serve/src/page/metrics.js";

const ROWS = Number(process.env.PAGE_ROWS ?? 10_000);
const text = (page, selector) => page.textContent(selector);
const finished = (page) => page.waitForFunction(() => / rows? in |Cancelled|Stopped/.test(document.getElementById("batch-status").textContent), null, { timeout: 600_000 });

/** The command line's own tests read the same table. */
const FORMS = JSON.parse(readFileSync(new URL("../data/forms.json", import.meta.url), "utf8"));

function readers() {
  for (const { mode, name, text, texts } of FORMS) {
    const found = mode === "pairs" ? parsePairs(text, name).rows.map((row) => row.error ?? [row.a, row.b]) : parseDocuments(text, name).rows.map((row) => row.error ?? row.b);
    assert.deepEqual(found, texts, `${mode} ${name}: ${text}`);
  }
  assert.deepEqual(delimited('a,"b ""x"", y"\r\n"line\nbreak",2\n\n', ","), [["a", 'b "x", y'], ["line\nbreak", "2"]]);
  assert.deepEqual(delimited('"so" he said,b\n"open,c', ","), [['"so" he said', "b"], ['"open', "c"]]);
  assert.deepEqual(delimited("\ufeffx,", ","), [["x", ""]]);
  assert.deepEqual(delimited('"",x', ","), [["", "x"]]);
  assert.deepEqual(parsePairs("query\tpassage\n1\t2\n3").rows, [{ a: "1", b: "2" }, { a: "3", b: "", error: "batch.short" }]);
  assert.deepEqual(parsePairs("x\ty\r1\t2", "a.csv").rows, [{ a: "x", b: "y" }, { a: "1", b: "2" }]);
  assert.deepEqual([parsePairs("x,y,z\n1,2").columns, parsePairs("a,b,z\n1,2,3").columns, parseDocuments("x,y", "d.csv").columns], [3, undefined, 2]);
  assert.deepEqual(parsePairs('[\n  {"a": "x", "b": "y"},\n  {"a": "x"}\n]'), { format: "json", rows: [{ a: "x", b: "y" }, { a: '{"a":"x"}', b: "", error: "batch.badentry", entry: 2 }] });
  assert.deepEqual(parsePairs('{\n  "a": "x",\n  "b": "y"\n}'), { format: "json", rows: [{ a: "x", b: "y" }] });
  assert.deepEqual(parseDocuments('["x","y"]').rows, [{ b: "x" }, { b: "y" }]);
  assert.deepEqual(parsePairs('{"a":"x"}\n\n{"a":"1","b":"2"}{"a":').rows, [
    { a: '{"a":"x"}', b: "", error: "batch.badjson", line: 1 },
    { a: '{"a":"1","b":"2"}{"a":', b: "", error: "batch.badjson", line: 3 },
  ]);
  assert.deepEqual(parsePairs('{\n"a":"x"}\n\n{"a":"1","b":"2"}{"a":\n').rows, [
    { a: '{"a":"x"}', b: "", error: "batch.badjson", line: 1 },
    { a: "1", b: "2" },
    { a: '{"a":\n', b: "", error: "batch.badjson", line: 4 },
  ]);
  assert.deepEqual(parsePairs("id,b,a\n7,B,A").rows, [{ a: "A", b: "B" }]);
  assert.deepEqual(parsePairs("x;y\n1;2").rows, [{ a: "x", b: "y" }, { a: "1", b: "2" }]);
  assert.deepEqual(parsePairs('["x","y"]\n{"query":"q","document":"d"}\nnonsense\n[1,2]').rows.map((row) => row.error ?? `${row.a}|${row.b}`), ["x|y", "q|d", "batch.badjson", "batch.badjson"]);
  assert.deepEqual(parsePairs('[["x","y"],{"a":"1","b":"2"}]').rows, [{ a: "x", b: "y" }, { a: "1", b: "2" }]);
  assert.deepEqual(parseDocuments("one, two\n\nthree").rows, [{ b: "one, two" }, { b: "three" }]);
  assert.deepEqual(parseDocuments('"x"\n{"text":"y"}', "d.jsonl").rows, [{ b: "x" }, { b: "y" }]);
  assert.deepEqual(parseDocuments("id,text\n1,hello", "d.csv").rows, [{ b: "hello" }]);
  for (const [raw, safe] of [["=1+1", "'=1+1"], ["@SUM(A1)", "'@SUM(A1)"], ["-2", "'-2"], ["\tx", '"\'\tx"'], ['a"b', '"a""b"'], ["a,b", '"a,b"'], ["plain", "plain"]]) {
    assert.ok(csvText(raw) === safe || csvText(raw) === `"${safe}"`, `${raw}: ${csvText(raw)}`);
  }
  const histogram = (counts) => buckets(counts.map((count, i) => `h_seconds_bucket{mode="x",le="${["0.1", "0.2", "+Inf"][i]}"} ${count}`).join("\n"), "h_seconds");
  assert.equal(quantile(since(histogram([5, 5, 5]), histogram([5, 15, 15])), 0.5).toFixed(6), "0.150000");
  assert.equal(quantile(since(histogram([5, 5, 5]), histogram([5, 5, 5])), 0.5), null);
  assert.equal(buckets("other 1", "h_seconds"), null);
}

export async function batch(guard) {
  readers();
  guard.allow(/console: Failed to load resource.*(429|400)/);
  const page = await guard.open("#batch", { permissions: ["clipboard-read", "clipboard-write"], acceptDownloads: true });
  const lines = Array.from({ length: ROWS }, (_, i) => [`"Row ${i}, ""quoted"" ${i % 7 ? "river" : "window"}"`, i % 11 === 0 ? `"=HYPERLINK(""x"",${i})"` : `the ${i % 3 ? "river" : "window"} of row ${i % 50}`].join(","));
  await page.evaluate((csv) => navigator.clipboard.writeText(csv), ["a,b", ...lines].join("\n"));
  await page.focus("#data");
  await page.keyboard.press("Control+V");
  await page.waitForFunction((n) => document.getElementById("data-note").textContent.includes(n), new Intl.NumberFormat("en-US").format(ROWS));

  // Cancelled half-way: what is scored stays, and can be taken. The third answer is that the server is busy; from the tenth on none comes.
  await page.evaluate(() => {
    window.statuses = [];
    new MutationObserver(() => window.statuses.push(document.getElementById("batch-status").textContent)).observe(document.getElementById("batch-status"), { childList: true });
  });
  let asked = 0;
  let stand;
  const still = new Promise((resolve) => { stand = resolve; });
  await page.route("**/v1/score", (route) => {
    asked++;
    if (asked === 3) return route.fulfill({ status: 429, headers: { "Retry-After": "1" }, contentType: "application/json", body: '{"error":{"message":"busy"}}' });
    if (asked < 10) return route.fallback();
    // Both of the page's requests wait now.
    return asked === 11 ? stand() : null;
  });
  await page.click("#batch-go");
  await page.waitForFunction(() => window.statuses.some((status) => /waiting 1 s/.test(status)));
  await still;
  await page.click("#batch-cancel");
  await page.waitForFunction(() => /Cancelled/.test(document.getElementById("batch-status").textContent));
  const kept = Number((await text(page, "#batch-status")).match(/Cancelled: ([\d,]+) of/)[1].replaceAll(",", ""));
  assert.ok(kept > 0 && kept < ROWS, `${kept} rows`);
  assert.equal(await page.isEnabled("#csv"), true);
  await page.unroute("**/v1/score");

  // The whole run, with the page watched: how long the longest gap between two frames is.
  await page.evaluate(() => {
    window.gap = 0;
    let before = performance.now();
    const frame = (now) => { window.gap = Math.max(window.gap, now - before); before = now; window.raf = requestAnimationFrame(frame); };
    window.raf = requestAnimationFrame(frame);
  });
  await page.click("#batch-go");
  await page.waitForFunction(() => document.getElementById("bar").value > 0.2, null, { timeout: 600_000 });
  await page.click('#table [data-key="percent"]');
  await finished(page);
  const gap = await page.evaluate(() => { cancelAnimationFrame(window.raf); return window.gap; });
  const inDocument = await page.locator("#table .vt-body .vt-row").count();
  assert.ok(inDocument > 5 && inDocument < 80, `${inDocument} rows are in the document`);
  await page.$eval("#table", (node) => { node.scrollTop = 5000; });
  assert.ok(await page.evaluate(() => { const [box, head] = ["#table", ".vt-head"].map((s) => document.querySelector(s).getBoundingClientRect()); return Math.abs(head.top - box.top) < 3; }), "the headings stay in sight");
  await page.$eval("#table", (node) => { node.scrollTop = 0; });
  assert.equal(await page.getAttribute("#table", "aria-rowcount"), String(ROWS + 1));
  const column = (i) => page.$$eval("#table .vt-body .vt-row", (rows, k) => rows.map((row) => row.children[k].textContent), i);
  const falling = (await column(3)).map(Number);
  assert.ok(falling.every((x, i) => i === 0 || falling[i - 1] >= x), `sorted by percent: ${falling}`);
  await page.click('#table [data-key="percent"]');
  const rising = (await column(3)).map(Number);
  assert.ok(rising.every((x, i) => i === 0 || rising[i - 1] <= x));
  assert.equal(await page.locator('#table [aria-sort="ascending"]').count(), 1);
  await page.click('#table [data-key="index"]');
  await page.$eval("#table", (node) => { node.scrollTop = node.scrollHeight; });
  await page.waitForFunction((n) => document.querySelector("#table .vt-body .vt-row:last-child").firstElementChild.textContent === String(n), ROWS);
  await guard.picture("batch");

  // Downloads: every row, in order, and nothing that a spreadsheet runs.
  const take = async (button) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
    return readFile(await download.path(), "utf8");
  };
  const written = await take("#csv");
  assert.equal(written[0], "\ufeff", "spreadsheets see that it is UTF-8");
  const csv = delimited(written, ",");
  assert.equal(csv.length, ROWS + 1);
  assert.deepEqual(csv[0].slice(0, 5), ["index", "a", "b", "percent", "verdict"]);
  assert.ok(csv.every((row) => row.length === csv[0].length));
  assert.equal(csv[1][1], 'Row 0, "quoted" window');
  assert.equal(csv[1][2], `'=HYPERLINK("x",0)`);
  assert.ok(csv.slice(1).every((row) => [1, 2, 4, 15].every((i) => !/^[=+\-@\t\r]/.test(row[i] ?? ""))));
  const jsonl = (await take("#jsonl")).trim().split("\n").map((line) => JSON.parse(line));
  assert.equal(jsonl.length, ROWS);
  assert.equal(jsonl[0].b, '=HYPERLINK("x",0)');
  const middle = jsonl[Math.floor(ROWS / 2)];
  const { data: [same] } = await guard.post("/v1/score", { pairs: [[middle.a, middle.b]] });
  for (const name of ["dense", "sparse", "colbert", "sparse+dense"]) assert.ok(Math.abs(middle[name] - same[name]) < 1e-6, `${name}: ${middle[name]}, ${same[name]}`);

  // A row opens as a comparison.
  await page.$eval("#table", (node) => { node.scrollTop = 0; });
  await page.click('#table [data-row="0"] button');
  await page.waitForSelector("#view-compare:not([hidden])");
  assert.equal(await page.inputValue("#b"), '=HYPERLINK("x",0)');

  await documents(guard, page);
  return `${ROWS} rows, longest gap between frames ${Math.round(gap)} ms, ${inDocument} rows in the document`;
}

/** One query and a dropped file of documents; one row is refused and says so, the rest are scored. */
async function documents(guard, page) {
  await page.click("nav a[data-view=batch]");
  await page.check('input[name=mode][value="documents"]');
  await page.fill("#query", "a river");
  await page.setInputFiles("#batch-file", { name: "documents.jsonl", mimeType: "application/x-ndjson", buffer: Buffer.from('{"text":"the river is wide"}\n"refuse me"\nnot json\n"苹果"') });
  await page.route("**/v1/score", (route) => (route.request().postData().includes("refuse me") ? route.fulfill({ status: 400, contentType: "application/json", body: '{"error":{"message":"this one is refused"}}' }) : route.fallback()));
  await page.click("#batch-go");
  await finished(page);
  const rows = await page.$$eval("#table .vt-body .vt-row", (all) => all.map((row) => row.children[4].textContent));
  assert.equal(rows.length, 4);
  assert.equal(rows[1], "this one is refused");
  assert.match(rows[2], /line 3 is not JSON/);
  assert.match(rows[0], /^(Near|Rel|Unc|Unr)/);
  assert.match(await text(page, "#batch-status"), /2 rows have an error/);
  await page.unroute("**/v1/score");
}
