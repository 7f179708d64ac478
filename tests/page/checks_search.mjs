// The search view: the sample in one click, texts of one's own and files, a served index with its filters, why, and 100,000 texts.

import assert from "node:assert/strict";
import { parseDocuments } from "../../crates/serve/src/page/parse.js";
import { QUESTIONS, SAMPLE } from "../../crates/serve/src/page/sample.js";
import { hash, marked, words } from "../../crates/serve/src/page/terms.js";

const MANY = Number(process.env.PAGE_DOCUMENTS ?? 100_000);
const text = (page, selector) => page.textContent(selector);
const keys = (page) => page.$$eval("#hits .hit", (hits) => hits.map((hit) => hit.dataset.key));
const ready = (page, n) => page.waitForFunction((n) => document.getElementById("search-status").textContent.startsWith(n), `${n} text`, { timeout: 600_000 });

/** Asks and waits for the hits of this question. */
async function ask(page, question) {
  await page.evaluate(() => document.querySelectorAll("#hits .hit").forEach((hit) => { hit.dataset.old = ""; }));
  await page.fill("#search-query", question);
  await page.press("#search-query", "Enter");
  await page.waitForSelector("#hits .hit:not([data-old]), #search-error:not([hidden])");
}

function readers() {
  assert.deepEqual(words("The iPhone's new 苹果公司 แมว Straße"), ["the", "iphone", "new", "苹", "果", "公", "司", "苹果", "果公", "公司", "แม", "มว", "straße"]);
  assert.deepEqual(words("Ａpple ﬁne — 3rd!"), ["apple", "fine", "3rd"]);
  assert.deepEqual(words(""), []);
  const wanted = new Set(words("new phone 苹果").map(hash));
  assert.deepEqual(marked("A New telephone, 大苹果!", wanted), [{ text: "A " }, { text: "New", mark: "word" }, { text: " telephone, 大" }, { text: "苹果", mark: "word" }, { text: "!" }]);
  const named = (source, name) => parseDocuments(source, name, true).rows;
  assert.deepEqual(named('{"id":7,"text":"x","title":"t","lang":"en","year":1}\n{"text":"y"}'), [{ b: "x", key: "7", title: "t", lang: "en" }, { b: "y" }]);
  assert.deepEqual(named("id,title,text\n1,t,hello", "d.csv"), [{ b: "hello", key: "1", title: "t" }]);
  assert.deepEqual(named("one\ntwo"), [{ b: "one" }, { b: "two" }]);
  assert.equal(new Set(SAMPLE.map((doc) => doc.key)).size, 42);
  assert.equal(new Set(SAMPLE.map((doc) => doc.lang)).size, 17);
}

/** Searches the sample, and has the first hit explained. */
export async function openHit(page) {
  await page.click("nav a[data-view=search]");
  await page.waitForSelector("#search-sources:not([hidden])");
  await page.check('input[name=search-source][value="own"]');
  await page.click("#search-sample");
  await page.waitForSelector("#hits .hit");
  await page.locator("#hits .why-hit").first().click();
  await page.waitForSelector("#hits .hit:first-child #why-body:not([hidden]) .tok");
}

/** What a question of the sample must find, in a language that it was not asked in. */
const ANSWERS = ["sora", "brulure", "library", "espresso", "reifen", "nachtzug", "shouji"];

export async function sample(guard) {
  readers();
  const page = await guard.open("#search");
  await page.waitForSelector("#search-sources:not([hidden])");
  // A service without an index shows the sample at once; this one has an index.
  assert.equal(await page.isVisible("#search-intro"), false);
  await page.check('input[name=search-source][value="own"]');
  await page.click("#search-sample");
  await page.waitForSelector("#hits .hit");
  assert.equal((await keys(page))[0], ANSWERS[0]);
  assert.match(await text(page, "#search-status"), /^42 texts are ready/);
  assert.match(await text(page, "#search-summary"), /^10 of 42 documents in /);
  for (const [i, { text: question, lang }] of QUESTIONS.entries()) {
    await page.evaluate(() => document.querySelectorAll("#hits .hit").forEach((hit) => { hit.dataset.old = ""; }));
    await page.locator("#search-questions button").nth(i).click();
    await page.waitForSelector("#hits .hit:not([data-old])");
    assert.equal((await keys(page))[0], ANSWERS[i], question);
    assert.notEqual(SAMPLE.find((doc) => doc.key === ANSWERS[i]).lang, lang, question);
  }
  // Bars: four arms a hit, and the numbers are the service's own.
  await ask(page, QUESTIONS[0].text);
  const first = page.locator("#hits .hit").first();
  assert.deepEqual(await first.locator(".arm").evaluateAll((arms) => arms.map((arm) => arm.dataset.arm)), ["dense", "words", "sparse", "colbert"]);
  const { data: [scores] } = await guard.post("/v1/score", { query: QUESTIONS[0].text, documents: [((doc) => `${doc.title}\n${doc.text}`)(SAMPLE.find((doc) => doc.key === "sora"))] });
  assert.equal(await first.locator('.arm[data-arm="dense"] .num').first().textContent(), scores.dense.toFixed(3));
  assert.equal(await first.locator('.arm[data-arm="colbert"] .num').first().textContent(), scores.colbert.toFixed(3));
  // More of them, down to all.
  for (const n of [20, 42]) {
    await page.click("#hits-more");
    await page.waitForFunction((n) => document.querySelectorAll("#hits .hit").length === n, n);
  }
  assert.equal(await page.isVisible("#hits-more"), false);
  await guard.picture("search-sample");
}

export async function searchKeys(guard) {
  const page = await guard.open("#search");
  await page.check('input[name=search-source][value="own"]');
  await page.fill("#search-texts", "red shoes for children\nthe river is wide\n苹果公司发布新手机");
  await page.waitForFunction(() => document.getElementById("search-note").textContent !== "");
  assert.match(await text(page, "#search-note"), /^3 texts\. Read as one document a line/);
  await page.focus("h1, #search-query");
  await page.locator("#search-query").fill("Apple has a new phone");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#hits .hit");
  assert.deepEqual((await keys(page))[0], "row 3");
  // Down into the hits, along them, Enter says why, Escape comes back.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.key), (await keys(page))[1]);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#hits .hit:first-child #why-body:not([hidden]) .tok");
  assert.equal(await page.getAttribute("#hits .hit:first-child .why-hit", "aria-expanded"), "true");
  assert.ok(await page.locator("#hits .hit:first-child #heat canvas").count() > 0, "the alignment is drawn in the hit");
  await page.focus("#hits .hit:first-child");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "search-query");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "search-query");
  // A pair opens in the other view, which has its own explanation again.
  await page.locator("#hits .hit").nth(1).locator("button", { hasText: "Open in Compare" }).click();
  await page.waitForSelector("#view-compare:not([hidden]) #why-body:not([hidden]) .tok");
  assert.equal(await page.inputValue("#a"), "Apple has a new phone");
  await page.click("nav a[data-view=search]");
  await page.locator("#hits .hit .why-hit").nth(2).click();
  await page.waitForSelector("#hits .hit:nth-child(3) #why-body:not([hidden]) .tok");
  await page.click("nav a[data-view=compare]");
  await page.waitForSelector("#result #why-body:not([hidden]) .tok");
  // Words that stand in a text are marked; nothing of a text is markup.
  await page.click("nav a[data-view=search]");
  const hostile = '<img src=x onerror="alert(1)"> river \u202egnorw\u0000 <b>bold</b>';
  await page.fill("#search-texts", `${hostile}\nsomething else`);
  await ask(page, "a wide river");
  assert.equal(await page.locator("#hits mark.word", { hasText: "river" }).count(), 1);
  assert.equal(await page.locator("#hits img, #hits b").count(), 0);
  assert.ok((await text(page, "#hits .snippet")).includes("<b>bold</b>"));
  // What cannot be searched is said.
  await page.fill("#search-query", "");
  await page.press("#search-query", "Enter");
  assert.match(await text(page, "#search-error"), /Enter a query/);
  await page.click("#search-clear");
  await ask(page, "x");
  assert.match(await text(page, "#search-error"), /no texts to search/);
  // In the other language, and on a narrow screen.
  await page.selectOption("#lang", "zh");
  assert.equal(await text(page, "#h-search"), "跨语言检索");
  await page.setViewportSize({ width: 360, height: 700 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the search view is wider than 360 px");
}

export async function searchIndex(guard) {
  guard.allow(/console: Failed to load resource.*422/);
  const page = await guard.open("#search");
  await page.waitForFunction(() => document.getElementById("search-index-note").textContent.includes("documents"));
  assert.equal(await page.isChecked('input[name=search-source][value="index"]'), true);
  assert.match(await text(page, "#search-index-note"), /^6 documents in notes, in 3 languages/);
  await ask(page, "苹果公司发布新手机");
  assert.equal((await keys(page))[0], "phone");
  const found = await guard.post("/v1/search", { query: "苹果公司发布新手机", explain: true });
  assert.deepEqual(await keys(page), found.hits.map((hit) => hit.document.key));
  const snippet = found.hits[0].explanation.snippet;
  assert.deepEqual(await page.$$eval("#hits .hit:first-child mark", (marks) => marks.map((mark) => mark.textContent)), snippet.filter((part) => part.mark).map((part) => part.text));
  assert.ok((await text(page, "#hits .hit:first-child")).includes("year: 2024"));
  await page.locator("#hits .why-hit").first().click();
  await page.waitForSelector("#hits .hit:first-child #why-body:not([hidden]) .tok");
  await guard.picture("search-index");
  // A filter, a language, both; and a filter that is none.
  await page.fill("#search-filter", "year >= 2022");
  await ask(page, "phone");
  assert.deepEqual((await keys(page)).sort(), ["buch", "phone"]);
  await page.selectOption("#search-lang", "de");
  await ask(page, "phone");
  assert.deepEqual(await keys(page), ["buch"]);
  assert.match(await text(page, "#search-summary"), /^1 of 1 documents/);
  await page.fill("#search-filter", 'year >= "');
  await ask(page, "phone");
  assert.match(await text(page, "#search-error"), /filter, at character/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "search-filter");
  await page.fill("#search-filter", "year < 1900");
  await page.press("#search-query", "Enter");
  await page.waitForFunction(() => document.getElementById("search-summary").textContent.startsWith("None of 0 documents"));
}

/** A file of many texts: read, embedded with a bar, searched while that goes on, never still for long. */
export async function searchMany(guard) {
  const page = await guard.open("#search");
  await page.check('input[name=search-source][value="own"]');
  // Vectors as a service of any speed gives them: made up, but for the one that is looked for.
  const dim = 32;
  const vector = (text) => {
    const values = new Float32Array(dim);
    let seed = hash(text) || 1;
    for (let i = 0; i < dim; i++) { seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5; values[i] = (seed >>> 0) / 2 ** 31 - 1; }
    const norm = Math.hypot(...values);
    return values.map((x) => x / norm);
  };
  let busy = 0;
  await page.route("**/v1/encode", (route) => {
    if (busy++ === 3) return route.fulfill({ status: 429, headers: { "Retry-After": "0" }, contentType: "application/json", body: '{"error":{"message":"busy"}}' });
    const rows = JSON.parse(route.request().postData()).input.map(vector);
    return route.fulfill({ contentType: "application/octet-stream", body: Buffer.concat(rows.map((row) => Buffer.from(row.buffer))) });
  });
  guard.allow(/console: Failed to load resource.*429/);
  // Made in the page, and dropped when the making of it is over: only the page's own work is measured.
  await page.evaluate(async (count) => {
    const lines = Array.from({ length: count }, (_, i) => JSON.stringify({ id: `n${i}`, text: `Document ${i} is about the ${i % 3 ? "river" : "window"} of house ${i % 977}` }));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([lines.join("\n")], "many.jsonl"));
    const frames = (n) => new Promise((resolve) => { const next = () => (n-- > 0 ? requestAnimationFrame(next) : resolve()); next(); });
    await frames(3);
    window.gap = 0;
    let before = performance.now();
    const frame = (now) => { window.gap = Math.max(window.gap, now - before); before = now; window.raf = requestAnimationFrame(frame); };
    window.raf = requestAnimationFrame(frame);
    document.getElementById("search-own").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }, MANY);
  const shown = new Intl.NumberFormat("en-US").format(MANY);
  await page.waitForFunction((n) => document.getElementById("search-note").textContent.startsWith(`${n} rows from the file many.jsonl`), shown);
  const target = `Document ${MANY - 7} is about the ${(MANY - 7) % 3 ? "river" : "window"} of house ${(MANY - 7) % 977}`;
  const reading = await page.evaluate(() => { const { gap } = window; window.gap = 0; return gap; });
  await page.fill("#search-query", target);
  await page.press("#search-query", "Enter");
  // What has its vector is searched at once, and all of it when all have.
  await page.waitForSelector("#hits .hit");
  await ready(page, shown);
  await page.waitForFunction((key) => document.querySelector("#hits .hit")?.dataset.key === key, `n${MANY - 7}`);
  assert.match(await text(page, "#search-summary"), new RegExp(`^10 of ${shown} documents`));
  const gap = await page.evaluate(() => window.gap);
  const begin = Date.now();
  await ask(page, "house 976 window");
  const took = Date.now() - begin;
  assert.match(await text(page, "#hits .hit:first-child mark >> nth=0"), /window|house|976/);
  // Another set takes its place; stopping keeps what is there.
  await page.click("#search-clear");
  assert.equal(await page.isVisible("#search-progress"), false);
  return `${MANY} texts, longest gap between frames ${Math.round(reading)} ms while the file is read, ${Math.round(gap)} ms after that; a question in ${took} ms`;
}

/** The picture of the README: `out/search.png`. */
export async function searchPicture(guard) {
  const page = await guard.open("#search", { viewport: { width: 1180, height: 900 } });
  await openHit(page);
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  await page.locator("#hits .hit:first-child #tokens .tok").nth(4).hover();
  const bottom = await page.evaluate(() => { const hit = document.querySelectorAll("#hits .hit")[1].getBoundingClientRect(); return Math.ceil(hit.bottom + window.scrollY) + 16; });
  await page.evaluate(() => window.scrollTo(0, 0));
  await guard.picture("search", { fullPage: true, clip: { x: 0, y: 0, width: 1180, height: bottom } });
}
