// What the page promises, check by check. Each gets a Guard and may give back a note for the log.

import assert from "node:assert/strict";
import { readFile, readdir, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createRequire } from "node:module";
import path from "node:path";
import { batch } from "./checks_batch.mjs";
import { files, guesses } from "./checks_files.mjs";
import { openHit, sample, searchIndex, searchKeys, searchMany, searchPicture } from "./checks_search.mjs";
import { sites } from "./checks_sites.mjs";
import { compare, poorContrast } from "./guard.mjs";
import { mix, percent, verdict } from "../../crates/serve/src/page/scores.js";

const PAGE = fileURLToPath(new URL("../../crates/serve/src/page/", import.meta.url));
const A = "苹果公司发布新手机";
const B = "Apple launched a new iPhone";
const text = (page, selector) => page.textContent(selector);
const bars = (page) => page.$$eval("#bars .bar-row", (rows) => Object.fromEntries(rows.map((row) => [row.dataset.score, row.querySelector(".num").textContent])));
const near = (shown, value, what) => (value === null ? assert.equal(shown, "–", what) : assert.ok(Math.abs(Number(shown) - value) < 6e-5, `${what}: ${shown} is not ${value}`));

async function compareCheck(guard) {
  const page = await guard.open();
  await compare(page, A, B);
  const { data: [row] } = await guard.post("/v1/score", { pairs: [[A, B]] });
  assert.equal(await text(page, "#percent"), percent(row.dense, [85, 60, 30]));
  assert.equal(await page.getAttribute("#hero", "data-verdict"), row.verdict);
  assert.match(await text(page, "#verdict"), /^(Near-identical|Related|Unclear|Unrelated)$/);
  const shown = await bars(page);
  assert.deepEqual(Object.keys(shown), ["colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense"]);
  for (const [name, value] of Object.entries(shown)) near(value, row[name], name);
  assert.match(await text(page, "#facts"), new RegExp(`${row.tokens[0]} \\+ ${row.tokens[1]}`));
  assert.match(await text(page, "#facts"), /Encode[\d.]+ ms/);
  await guard.picture("compare", { fullPage: true });

  // Weights: the page's arithmetic is the server's.
  for (const weights of [[0.4, 0.2, 0.4], [1, 0.3, 1]]) {
    await page.click(`#presets button:has-text("${weights.join(" · ")}")`);
    const { data: [weighted] } = await guard.post("/v1/score", { pairs: [[A, B]], weights });
    for (const [name, value] of Object.entries(await bars(page))) near(value, weighted[name], `${name} under ${weights}`);
    const here = mix(row, weights);
    for (const name of ["sparse+dense", "colbert+sparse+dense"]) assert.ok(Math.abs(here[name] - weighted[name]) <= 1.2e-7 * Math.abs(weighted[name]) + 1e-9, `${name}: ${here[name]}, ${weighted[name]}`);
  }
  const slide = (mode, value) => page.$eval(`#w-${mode}`, (input, x) => { input.value = x; input.dispatchEvent(new Event("input")); input.dispatchEvent(new Event("change")); }, String(value));
  await slide("dense", 0);
  await slide("sparse", 0);
  assert.equal((await bars(page))["sparse+dense"], "–");
  assert.match(await text(page, "#weights-note"), /undefined/);
  near((await bars(page))["colbert+sparse+dense"], row.colbert, "ColBERT alone");
  await slide("colbert", 0);
  assert.equal((await bars(page))["colbert+sparse+dense"], "–");
  await page.click('#presets button:has-text("0.4 · 0.2 · 0.4")');

  // The link reopens the same comparison, weights and all.
  const link = new URL(page.url()).hash;
  assert.match(link, /^#a=.*&b=.*&w=0\.4%2C0\.2%2C0\.4$/);
  const score = await text(page, "#percent");
  const again = await guard.open(link);
  await again.waitForSelector("#why-body:not([hidden])");
  assert.equal(await text(again, "#percent"), score);
  assert.equal(await again.inputValue("#a"), A);
  near((await bars(again))["colbert+sparse+dense"], mix(row, [0.4, 0.2, 0.4])["colbert+sparse+dense"], "after the link");

  // The examples of the repository.
  assert.equal(await again.locator("#examples button").count(), 4);
  await again.click("#examples button:last-child");
  await again.waitForFunction(() => document.getElementById("b").value === "Paris is the capital of France");
}

async function thresholds(guard) {
  for (const [dense, word, shown] of [[0.85001, "near-identical", "85.001"], [0.85, "related", "85.00"], [0.8499999, "related", "85.00"], [0.6, "unclear", "60.00"], [0.3, "unclear", "30.00"], [0.29999, "unrelated", "29.999"], [-0.2, "unrelated", "-20.00"], [0, "unrelated", "0.00"]]) {
    assert.equal(verdict(dense, [85, 60, 30]), word, String(dense));
    assert.equal(percent(dense, [85, 60, 30]), shown);
  }
  const page = await guard.open();
  await compare(page, A, B);
  const value = Number(await text(page, "#percent"));
  await page.click("#meaning summary");
  const set = (i, x) => page.fill(`#th-${i}`, String(x));
  await set(1, Math.max(-90, Math.floor(value) - 2));
  await set(2, -100);
  await set(0, Math.floor(value) - 1);
  assert.equal(await text(page, "#verdict"), "Near-identical");
  await set(0, 10);
  await set(1, 20);
  assert.equal(await page.isVisible("#thresholds-error"), true);
  await page.reload();
  await page.waitForSelector("#why-body:not([hidden])");
  assert.equal(await text(page, "#verdict"), "Near-identical", "thresholds are remembered");
  await page.click("#meaning summary");
  await page.click("#thresholds-reset");
  assert.equal(await page.getAttribute("#hero", "data-verdict"), verdict(value / 100, [85, 60, 30]));
}

async function why(guard) {
  const page = await guard.open();
  await compare(page, A, B);
  const answer = await guard.post("/v1/explain", { a: A, b: B });
  const chips = page.locator("#tokens .chips");
  assert.equal(await chips.nth(0).locator(".tok").count(), answer.a.tokens.length);
  assert.equal(await chips.nth(1).locator(".tok").count(), answer.b.tokens.length);
  const at = answer.a.tokens.findIndex((token) => token.piece.includes("苹果"));
  assert.ok(at > 0);
  const partner = answer.alignment.best[at - 1] + 1;
  if (!guard.isMock) assert.match(answer.b.tokens[partner].piece, /Apple/);
  await chips.nth(0).locator(".tok").nth(at).hover();
  assert.deepEqual(await chips.nth(1).locator(".tok.lit").allTextContents(), [answer.b.tokens[partner].piece.replace(/^▁(?=.)/, "")]);
  assert.match(await text(page, "#readout"), /苹果.*weight.*nearest in Text B/);
  await guard.picture("why", { fullPage: true });

  // The same by keyboard, from B's side.
  await chips.nth(1).locator('[tabindex="0"]').focus();
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await chips.nth(1).locator(".tok.here").count(), 1);
  assert.equal(await chips.nth(0).locator(".tok.lit").count() >= 1, true);
  if (!guard.isMock) assert.match(await text(page, "#readout"), /iPhone.*手机/);

  // The heat map: every best match of the list, and a cursor.
  const rows = await page.$$eval("#align tbody tr", (all) => all.map((row) => Number(row.cells[2].textContent)));
  assert.deepEqual(rows, answer.alignment.best.map((column, i) => Number(answer.alignment.matrix[i][column].toFixed(2))));
  assert.ok(Math.abs(answer.alignment.best.reduce((sum, column, i) => sum + answer.alignment.matrix[i][column], 0) / rows.length - answer.scores.colbert) < 1e-5);
  await page.focus("#heat canvas[tabindex]");
  const first = await text(page, "#readout");
  await page.keyboard.press("ArrowDown");
  assert.match(first, /×.*Cosine/);
  assert.notEqual(await text(page, "#readout"), first);
  assert.ok(await page.$eval("#heat canvas[tabindex]", (canvas) => new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size > 20), "the picture is not empty");

  // Shared tokens with their products.
  const [c, d] = ["I enjoy reading books about the sea", "Reading books about ships is what I enjoy"];
  await compare(page, c, d);
  const both = await guard.post("/v1/explain", { a: c, b: d });
  assert.ok(both.shared.length > 1);
  const products = await page.$$eval("#shared tbody tr", (all) => all.map((row) => Number(row.cells[4].textContent)));
  assert.deepEqual([...products].sort((x, y) => y - x), products);
  assert.ok(Math.abs(products.reduce((sum, x) => sum + x, 0) - both.scores.sparse) < 1e-3);
  await page.hover("#shared tbody tr:first-child");
  assert.equal(await page.locator("#tokens .chips").nth(0).locator(".tok.lit").count() >= 1, true);
  assert.equal(await page.locator("#tokens .chips").nth(1).locator(".tok.lit").count() >= 1, true);
}

async function long(guard) {
  const page = await guard.open();
  const words = (seed) => Array.from({ length: 900 }, (_, i) => ["river", "cloud", "window", "薄い", "كتاب", "engine"][(i * seed) % 6] + (i % 17)).join(" ");
  await compare(page, words(5), words(7));
  assert.equal(await page.isVisible("#truncation"), true);
  const count = await page.locator("#tokens .tok").count();
  assert.ok(count > 600, `${count} tokens`);
  await page.locator("#tokens .tok").nth(40).hover();
  assert.equal(await page.locator("#tokens .tok.lit").count() >= 1, true);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
  await guard.picture("long");
  return `${count} tokens`;
}

/** A matrix of millions is asked for first, then pooled; tokens come in pages. */
async function large(guard) {
  const page = await guard.open();
  const [n, m] = [1500, 1300];
  const tokens = (count) => Array.from({ length: count + 1 }, (_, i) => ({ id: i, piece: i === 0 ? "<s>" : i === count ? "</s>" : `▁w${i}`, weight: 0.1 }));
  const answer = {
    model: "x", scores: { colbert: 0.5, sparse: 0, dense: 0.5, "sparse+dense": 0.25, "colbert+sparse+dense": 0.3 }, percent: 50, verdict: "unclear",
    a: { tokens: tokens(n), truncated: false }, b: { tokens: tokens(m), truncated: false }, shared: [],
    alignment: { matrix: Array.from({ length: n }, (_, i) => Array.from({ length: m }, (_, j) => (i % m === j ? 1 : 0.2))), best: Array.from({ length: n }, (_, i) => i % m), score: 0.5 },
  };
  let asked = 0;
  await page.route("**/v1/score", (route) => route.fulfill({ json: { model: "x", data: [{ index: 0, ...answer.scores, tokens: [n + 1, m + 1], truncated: [false, false] }], timing: {} } }));
  await page.route("**/v1/explain", (route) => { asked++; return route.fulfill({ json: answer }); });
  await page.click("#go");
  await page.waitForSelector("#why-ask:not([hidden])");
  assert.equal(asked, 0);
  assert.match(await text(page, "#why-ask"), /1,501 × 1,301/);
  await page.click("#why-go");
  await page.waitForSelector("#why-body:not([hidden])");
  assert.match(await text(page, "#heat"), /largest of 2 × 2/);
  const chips = page.locator("#tokens .chips").nth(0);
  assert.equal(await chips.locator(".tok").count(), 1000);
  await page.locator("#tokens .tokens").nth(0).locator("button").click();
  assert.equal(await chips.locator(".tok").count(), n + 1);
  await chips.locator(".tok").nth(7).hover();
  assert.deepEqual(await page.locator("#tokens .tok.lit").allTextContents(), ["w7"]);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
}

/** A model with a dense vector alone. */
async function missing(guard) {
  const page = await guard.open();
  const scores = { colbert: null, sparse: null, dense: 0.7, "sparse+dense": null, "colbert+sparse+dense": null };
  const side = { tokens: [{ id: 0, piece: "<s>", weight: null }, { id: 9, piece: "▁x", weight: null }, { id: 2, piece: "</s>", weight: null }], truncated: false };
  await page.route("**/v1/score", (route) => route.fulfill({ json: { model: "x", data: [{ index: 0, ...scores, tokens: [3, 3], truncated: [false, false] }], timing: {} } }));
  await page.route("**/v1/explain", (route) => route.fulfill({ json: { model: "x", scores, a: side, b: side, shared: [], alignment: null } }));
  await page.click("#go");
  await page.waitForSelector("#why-body:not([hidden])");
  assert.deepEqual(Object.values(await bars(page)), ["–", "–", "0.7000", "–", "–"]);
  assert.match(await text(page, "#shared"), /no lexical head/);
  assert.match(await text(page, "#heat"), /no ColBERT head/);
  await page.locator("#tokens .tok").nth(1).hover();
  assert.equal(await text(page, "#readout"), "x");
  // No dense vector either.
  await page.unroute("**/v1/score");
  await page.route("**/v1/score", (route) => route.fulfill({ json: { model: "x", data: [{ index: 0, ...scores, dense: null, tokens: [3, 3], truncated: [false, false] }], timing: {} } }));
  await page.click("#go");
  await page.waitForFunction(() => document.getElementById("percent").textContent === "–");
  assert.match(await text(page, "#verdict-text"), /no dense vector/);
}

async function language(guard) {
  const page = await guard.open("", { locale: "zh-CN" });
  assert.equal(await text(page, "#h-compare"), "比较两段文本");
  await compare(page, A, B);
  assert.match(await text(page, "#verdict"), /^(几乎相同|相关|不确定|无关)$/);
  await guard.picture("chinese", { fullPage: true });
  await page.selectOption("#lang", "en");
  assert.equal(await text(page, "#h-compare"), "Compare two texts");
  assert.match(await text(page, "#verdict"), /^(Near-identical|Related|Unclear|Unrelated)$/);
  assert.match(await page.getAttribute("html", "lang"), /^en/);
  await page.reload();
  await page.waitForSelector("html[data-ready]");
  assert.equal(await text(page, "#h-compare"), "Compare two texts", "the choice is remembered");
  assert.deepEqual(await page.evaluate(async () => (await import("/i18n.js")).missing()), [], "both languages have every word");
  const named = await page.evaluate(async () => {
    const { t } = await import("/i18n.js");
    const keys = [...document.querySelectorAll("[data-i18n]"), ...document.querySelectorAll("[data-i18n-label]")].flatMap((node) => [node.dataset.i18n, node.dataset.i18nLabel]).filter(Boolean);
    return keys.filter((key) => t(key) === key);
  });
  assert.deepEqual(named, [], "every word that the page names is there");
}

async function keyboard(guard) {
  const page = await guard.open();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  const seen = [];
  const tabTo = async (id) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      seen.push(await focused());
      const ring = await page.evaluate(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; });
      assert.ok(ring, `no visible focus on ${seen.at(-1)}`);
      if (seen.at(-1) === id) return;
    }
    assert.fail(`${id} is not reached by Tab: ${seen.join(", ")}`);
  };
  await tabTo("a");
  assert.equal(seen[0], "Skip to content");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("The cat sleeps");
  await tabTo("b");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("A cat is asleep");
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector("#why-body:not([hidden])");
  await tabTo("w-dense");
  const before = await bars(page);
  await page.keyboard.press("Home");
  assert.notDeepEqual(await bars(page), before);
  for (let i = 0; i < 30 && !(await page.evaluate(() => document.activeElement.classList.contains("tok"))); i++) await page.keyboard.press("Tab");
  const first = await text(page, "#readout");
  assert.notEqual(first, "");
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await text(page, "#readout"), first);
  for (let i = 0; i < 3; i++) await page.keyboard.press("Shift+Tab");
  // The other views, by their links.
  await page.focus("nav a[data-view=batch]");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#view-batch:not([hidden])");
  await page.focus("nav a[data-view=status]");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#tiles .tile");
}

async function narrow(guard) {
  const page = await guard.open("", { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await compare(page, A, B);
  const fits = async (what) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${what} is wider than 360 px`);
  await fits("compare");
  await guard.picture("narrow", { fullPage: true });
  await page.click("nav a[data-view=batch]");
  await page.fill("#data", "a,b\none,two\n");
  await page.click("#batch-go");
  await page.waitForFunction(() => /1 rows? in/.test(document.getElementById("batch-status").textContent));
  await fits("batch");
  await page.click("nav a[data-view=status]");
  await page.waitForSelector("#tiles .tile");
  await fits("status");
}

/** Row 34 of the list of bad input: markup, 5 MB, direction overrides. */
async function injection(guard) {
  const page = await guard.open("", { permissions: ["clipboard-read", "clipboard-write"] });
  const evil = ['<script>alert(1)</script>', '<img src=x onerror="alert(2)">', '"><svg onload=alert(3)>', "{{7*7}}${alert(4)}", "javascript:alert(5)"].join(" ");
  await compare(page, evil, `${evil} x`);
  await page.locator("#tokens .tok").nth(3).hover();
  assert.equal(await page.locator("#main script, #main img, #main svg").count(), 0);
  const link = new URL(page.url()).hash;
  const linked = await guard.open(link);
  await linked.waitForSelector("#why-body:not([hidden])");
  assert.equal(await linked.inputValue("#a"), evil);
  await linked.goto(`${guard.url}/#${encodeURIComponent("<img src=x onerror=alert(6)>")}`);

  await linked.goto(`${guard.url}/#batch`);
  await linked.waitForSelector("#view-batch:not([hidden])");
  await linked.fill("#data", `${JSON.stringify([evil, "=cmd()"])}\n${JSON.stringify({ a: "\u202eevil", b: evil })}`);
  await linked.click("#batch-go");
  await linked.waitForFunction(() => /2 rows? in/.test(document.getElementById("batch-status").textContent));
  assert.equal(await linked.locator("#main script, #main img, #main svg").count(), 0);
  assert.match(await text(linked, "#table .vt-body"), /<script>alert\(1\)<\/script>/);

  // A right-to-left override stays inside its own element, and shows as a code in tokens.
  const page2 = await guard.open();
  const [x, y] = ["\u202egnp.exe\u2067\u2066\u202d مرحبا بالعالم", "plain\u202etxet"];
  await compare(page2, x, y);
  assert.ok(await page2.evaluate(() => [...document.querySelectorAll("#result *")].every((node) => [...node.childNodes].every((child) => child.nodeType !== 3 || !/[\u202a-\u202e\u2066-\u2069]/.test(child.data) || node.closest("bdi")))), "directional marks are isolated");
  assert.ok(await page2.evaluate(() => [...document.querySelectorAll(".tok")].every((node) => getComputedStyle(node).unicodeBidi.includes("isolate"))));
  assert.ok(await page2.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await guard.picture("bidi", { fullPage: true });

  // 5 MB pasted: cut with a word about it, a request of bounded size, and the page still answers.
  const page3 = await guard.open("", { permissions: ["clipboard-read", "clipboard-write"] });
  let sent = 0;
  page3.on("request", (request) => { sent = Math.max(sent, request.postDataBuffer()?.length ?? 0); });
  await page3.evaluate(() => navigator.clipboard.writeText("5 MB of text. ".repeat(374_492)));
  await page3.fill("#a", "");
  await page3.focus("#a");
  await page3.keyboard.press("Control+V");
  await page3.waitForSelector("#cut:not([hidden])");
  assert.equal((await page3.inputValue("#a")).length, 200_000);
  await page3.keyboard.press("Control+Enter");
  await page3.waitForSelector("#result:not([hidden]), #compare-error:not([hidden])");
  assert.equal(await page3.isVisible("#result"), true, await text(page3, "#compare-error"));
  assert.equal(await page3.isVisible("#truncation"), true);
  assert.ok(sent > 100_000 && sent < 1_500_000, `${sent} bytes were sent`);
  assert.ok(await page3.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  return `largest request ${Math.round(sent / 1000)} kB`;
}

async function contrast(guard) {
  for (const theme of ["light", "dark"]) {
    const page = await guard.open("", { colorScheme: theme });
    await compare(page, "I enjoy reading books, 我喜欢", "Reading books is what I enjoy");
    await page.click("#meaning summary");
    await page.locator("#tokens .tok").nth(2).hover();
    assert.deepEqual(await page.evaluate(poorContrast), [], `compare, ${theme}`);
    for (const word of ["near-identical", "related", "unrelated", "unclear"]) {
      await page.$eval("#hero", (node, v) => { node.dataset.verdict = v; }, word);
      assert.deepEqual(await page.evaluate(poorContrast), [], `${word}, ${theme}`);
    }
    await guard.picture(`compare-${theme}`, { fullPage: true });
    await page.click("nav a[data-view=batch]");
    await page.fill("#data", "one,two\nthe same,the same\nlonely\n");
    await page.click("#batch-go");
    await page.waitForFunction(() => /rows in/.test(document.getElementById("batch-status").textContent));
    assert.deepEqual(await page.evaluate(poorContrast), [], `batch, ${theme}`);
    await openHit(page);
    assert.deepEqual(await page.evaluate(poorContrast), [], `search, ${theme}`);
    await guard.picture(`search-${theme}`, { fullPage: true });
    await page.click("nav a[data-view=status]");
    await page.waitForSelector("#tiles .tile");
    assert.deepEqual(await page.evaluate(poorContrast), [], `status, ${theme}`);
    await guard.picture(`status-${theme}`);
    // The switch on the page wins over the system.
    const other = theme === "light" ? "dark" : "light";
    const before = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.selectOption("#theme", other);
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), before);
  }
  // The judge itself: grey on grey is found.
  const page = await guard.open();
  await page.$eval("#h-compare", (node) => { node.style.color = "#b0b0b0"; });
  assert.equal((await page.evaluate(poorContrast)).length, 1);
}

/** axe-core, a judge that is not ours, on every view in both themes. */
async function axe(guard) {
  const source = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  const judge = async (page, what) => {
    await page.evaluate(source);
    const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
    assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`), [], what);
  };
  for (const theme of ["light", "dark"]) {
    const page = await guard.open("", { colorScheme: theme });
    await compare(page, "I enjoy reading books, 我喜欢", "Reading books is what I enjoy");
    await page.click("#meaning summary");
    await judge(page, `compare, ${theme}`);
    await page.click("nav a[data-view=batch]");
    await page.fill("#data", "one,two\nthe same,the same\nlonely\n");
    await page.click("#batch-go");
    await page.waitForFunction(() => /rows in/.test(document.getElementById("batch-status").textContent));
    await judge(page, `batch, ${theme}`);
    await openHit(page);
    await judge(page, `search, ${theme}`);
    await page.click("nav a[data-view=status]");
    await page.waitForSelector("#tiles .tile");
    await judge(page, `status, ${theme}`);
    const docsPage = await guard.open("docs.html", { colorScheme: theme });
    await docsPage.waitForSelector("#ops details");
    await judge(docsPage, `docs, ${theme}`);
  }
}

async function status(guard) {
  const page = await guard.open("#status");
  await page.waitForSelector("#tiles .tile");
  const answer = await (await fetch(`${guard.url}/v1/status`)).json();
  const shown = await text(page, "#model-facts");
  for (const value of [answer.model.name, answer.model.weights, answer.isa, answer.version]) assert.ok(shown.includes(String(value)), `${value} is shown`);
  await guard.post("/v1/score", { pairs: [[A, B]] });
  await page.waitForFunction(() => { const c = document.getElementById("chart"); return c.width > 300 && c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((x) => x > 0); });
}

async function docs(guard) {
  const page = await guard.open("docs.html");
  const spec = await (await fetch(`${guard.url}/openapi.json`)).json();
  const operations = Object.values(spec.paths).flatMap((item) => Object.keys(item).filter((method) => ["get", "post", "put", "patch", "delete"].includes(method)));
  assert.ok(operations.length > 0, "the server describes no route");
  await page.waitForFunction((n) => document.querySelectorAll("#ops details").length === n, operations.length);
  await page.locator("#ops details summary").first().click();
  await page.$$eval("#ops details", (all) => all.forEach((one) => { one.open = true; }));
  assert.deepEqual(await page.evaluate(poorContrast), []);
  await guard.picture("docs");
}

const fault = (status, message, headers = {}) => ({ status, contentType: "application/json", headers, body: JSON.stringify({ error: { message, type: "x", code: "y", param: null } }) });

async function errors(guard) {
  guard.allow(/console: Failed to load resource/);
  const page = await guard.open();
  await page.route("**/v1/score", (route) => route.fulfill(fault(429, "the queue is full", { "Retry-After": "3" })), { times: 1 });
  await page.click("#go");
  await page.waitForSelector("#compare-error:not([hidden])");
  assert.equal(await text(page, "#compare-error"), "The server is busy; try again in 3 s. (the queue is full)");
  await page.route("**/v1/score", (route) => route.abort(), { times: 1 });
  await page.click("#go");
  await page.waitForFunction(() => /does not answer/.test(document.getElementById("compare-error").textContent));
  await page.route("**/v1/score", (route) => route.fulfill({ status: 502, body: "<h1>Bad gateway</h1>" }), { times: 1 });
  await page.click("#go");
  await page.waitForFunction(() => /status 502/.test(document.getElementById("compare-error").textContent));
  await page.route("**/v1/score", (route) => route.fulfill({ status: 200, body: "<h1>Log in</h1>" }), { times: 1 });
  await page.click("#go");
  await page.waitForFunction(() => /not the JSON that this page expects/.test(document.getElementById("compare-error").textContent));
  // In Chinese, too; the service's own words stay, in brackets.
  const chinese = await guard.open("", { locale: "zh-CN" });
  await chinese.route("**/v1/score", (route) => route.fulfill({ status: 413, contentType: "application/json", body: '{"error":{"message":"the texts cost 9","code":"request_too_large"}}' }), { times: 1 });
  await chinese.click("#go");
  await chinese.waitForFunction(() => document.getElementById("compare-error").textContent === "一次发送的文本太多。（the texts cost 9）");
  await page.fill("#a", "");
  await page.click("#go");
  await page.waitForFunction(() => /both sides/.test(document.getElementById("compare-error").textContent));

  // A key is asked for once, sent, and kept in this tab only.
  await page.fill("#a", "one");
  const keys = [];
  await page.route(/v1\/(score|explain)/, (route) => {
    const key = route.request().headers().authorization;
    keys.push(key);
    return key === "Bearer secret" ? route.fallback() : route.fulfill(fault(401, "a key is needed", { "WWW-Authenticate": "Bearer" }));
  });
  await page.click("#go");
  await page.waitForSelector("#key-dialog[open]");
  await page.fill("#key", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("key-dialog").open && document.getElementById("key").value === "");
  await page.fill("#key", "secret");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#why-body:not([hidden])");
  assert.deepEqual(keys, [undefined, "Bearer wrong", "Bearer secret", "Bearer secret"]);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("trivec.key")), "secret");
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie + location.href)).includes("secret"));
}

async function weight(guard) {
  const names = await readdir(PAGE);
  const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(PAGE, name))).size));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total < 225_000, `${total} bytes`);
  for (const name of names.filter((one) => /\.(js|html|css)$/.test(one))) {
    const source = await readFile(path.join(PAGE, name), "utf8");
    assert.ok(!/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/.test(source), `${name} makes markup or code of text`);
    assert.ok(!/\sstyle="|\son\w+="|<script>/.test(source), `${name} has inline style or script`);
    assert.ok(!/https?:\/\/(?!www\.w3\.org\/2000\/svg)/.test(source), `${name} names another host`);
    assert.ok(source.split("\n").length <= 600, `${name} is long`);
  }
  const policy = (await fetch(guard.url)).headers.get("content-security-policy");
  assert.match(policy, /default-src 'self'/);
  assert.ok(!/unsafe/.test(policy));
  return `${total} bytes`;
}

/** The picture of the README: `out/page.png`. */
async function picture(guard) {
  const page = await guard.open("", { viewport: { width: 1180, height: 900 } });
  // The second answer: the first one of a process pays for touching the weights.
  for (let i = 0; i < 2; i++) await compare(page, A, B);
  await page.evaluate(() => document.activeElement.blur());
  await page.locator("#tokens .tok").nth(2).hover();
  await guard.picture("page", { fullPage: true });
}

export const checks = { compare: compareCheck, thresholds, why, long, large, missing, batch, files, guesses, language, keyboard, narrow, injection, contrast, axe, status, docs, errors, sites, weight, picture, sample, searchKeys, searchIndex, searchMany, searchPicture };
