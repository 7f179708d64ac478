// A browser context that remembers what a page must not do: speak to other hosts, break its CSP, log errors, throw.

import assert from "node:assert/strict";
import path from "node:path";

/** How long Playwright waits for what must come: long enough for a machine that has much else to do. */
const DEADLINE_MS = 180_000;

export class Guard {
  constructor(browser, url, out, isMock) {
    Object.assign(this, { browser, url, out, isMock, faults: [], allowed: [], contexts: [], page: null });
  }

  /** A fresh page in a fresh profile, opened at `hash`. `options` are Playwright's context options. */
  async open(hash = "", options = {}, prepare = null) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-US", reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(DEADLINE_MS);
    this.contexts.push(context);
    context.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== this.url && !["data:", "blob:"].includes(protocol)) this.faults.push(`a request to another host: ${request.url()}`);
    });
    await context.addInitScript(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
    const page = await context.newPage();
    this.page = page;
    page.on("console", (message) => { if (["error", "warning"].includes(message.type())) this.faults.push(`console: ${message.text()}`); });
    page.on("pageerror", (error) => this.faults.push(`exception: ${error.stack}`));
    page.on("dialog", (dialog) => { this.faults.push(`a script ran: ${dialog.message()}`); dialog.dismiss(); });
    if (prepare) await prepare(page);
    await page.goto(`${this.url}/${hash}`);
    await page.waitForSelector("html[data-ready]");
    return page;
  }

  /** Faults that a check provokes by intent. */
  allow(pattern) { this.allowed.push(pattern); }

  async violations() {
    for (const context of this.contexts) for (const page of context.pages()) this.faults.push(...await page.evaluate(() => window.violations.map((v) => `CSP: ${v}`)));
  }

  verify() {
    assert.deepEqual(this.faults.filter((fault) => !this.allowed.some((pattern) => pattern.test(fault))), []);
  }

  async picture(name, options = {}) { return this.page.screenshot({ path: path.join(this.out, `${name}.png`), ...options }); }

  async post(route, body) {
    const answer = await fetch(`${this.url}${route}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    assert.equal(answer.status, 200, `${route}: ${answer.status}`);
    return answer.json();
  }

  async close() {
    await Promise.all(this.contexts.map((context) => context.close()));
  }
}

/** Compares two texts by hand and waits for everything to be shown. */
export async function compare(page, a, b) {
  // What is shown already is not waited for.
  await page.evaluate(() => document.querySelectorAll("#tokens .tok").forEach((token) => { token.dataset.old = ""; }));
  await page.fill("#a", a);
  await page.fill("#b", b);
  const explained = page.waitForResponse((response) => response.url().endsWith("/v1/explain"));
  await page.focus("#b");
  await page.keyboard.press("Control+Enter");
  await explained;
  await page.waitForSelector("#why-body:not([hidden])");
  await page.waitForSelector("#tokens .tok:not([data-old])");
}

/**
 * Runs in the page: every visible text whose contrast with what is behind it is under WCAG AA (4.5, or 3 for large text), and every
 * border of a control under 3.
 */
export function poorContrast() {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const luminance = (c) => c.slice(0, 3).map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (x, y) => { const [hi, lo] = [luminance(x), luminance(y)].sort((p, q) => q - p); return (hi + 0.05) / (lo + 0.05); };
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!node.checkVisibility({ checkVisibilityCSS: true }) || node.closest(":disabled, .sr, .skip, option")) continue;
    const style = getComputedStyle(node);
    const name = `${node.tagName.toLowerCase()}${node.id ? `#${node.id}` : ""}.${node.className} "${String(node.textContent || node.value || "").trim().slice(0, 30)}"`;
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) || node.matches("textarea, select, input[type=text], input[type=number]");
    if (hasText) {
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const got = ratio(over(rgba(style.color), behind(node)), behind(node));
      if (got < (large ? 3 : 4.5)) found.push(`${name}: ${got.toFixed(2)}`);
    }
    if (node.matches("textarea, select, input[type=text], input[type=number]")) {
      const got = ratio(over(rgba(style.borderTopColor), behind(node.parentElement)), behind(node.parentElement));
      if (got < 3) found.push(`border of ${name}: ${got.toFixed(2)}`);
    }
  }
  return found;
}
