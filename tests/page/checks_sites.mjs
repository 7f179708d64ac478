// What pages of other sites can do with the service: nothing. A real browser, sites of our own; `evil.test` is an address of this machine.

import assert from "node:assert/strict";
import { createServer } from "node:http";

/** What the browser has to be started with for the names of these checks. */
export const RULES = "--host-resolver-rules=MAP evil.test 127.0.0.1";

/** A site with one empty page, on a port of its own. */
const site = () => new Promise((resolve) => {
  const server = createServer((_, answer) => answer.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>site</title>"));
  server.listen(0, "127.0.0.1", () => resolve({ port: server.address().port, close: () => server.close() }));
});

/** How many texts the service has computed. */
async function computed(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^trivec_texts_total (\d+)/m.exec(text)[1]);
}

/** Runs in a page: sends a POST and tells what came of it. */
async function send({ url, type, mode }) {
  const headers = type ? { "content-type": type } : {};
  const body = type === "form" ? new URLSearchParams({ input: "x" }) : new Blob(['{"input":"from another site"}']);
  try {
    const answer = await fetch(url, { method: "POST", mode, headers: type === "form" ? {} : headers, body });
    return { status: answer.status, type: answer.type, text: await answer.text() };
  } catch (error) {
    return { error: String(error) };
  }
}

export async function sites(guard) {
  if (guard.isMock) return "not of the mock";
  const port = new URL(guard.url).port;
  const before = await computed(guard.url);
  const context = await guard.browser.newContext();
  guard.contexts.push(context);
  const page = await context.newPage();
  // The shape of `guard.violations`, which asks every page.
  await context.addInitScript(() => { window.violations = []; });

  // DNS rebinding: the page is of evil.test, the machine is this one.
  const rebound = await page.goto(`http://evil.test:${port}/`);
  assert.equal(rebound.status(), 403);
  for (const route of ["/v1/embeddings", "/embed"]) {
    const found = await page.evaluate(send, { url: route, type: "application/json", mode: "same-origin" });
    assert.equal(found.status, 403, `${route}: ${JSON.stringify(found)}`);
  }
  for (const route of ["/v1/status", "/metrics", "/info"]) {
    const status = await page.evaluate(async (url) => (await fetch(url)).status, route);
    assert.equal(status, 403, route);
  }

  // Another origin, also of this machine's own names: what needs no question is sent, and refused; the rest is not even sent.
  const other = await site();
  const statuses = [];
  page.on("response", (response) => { if (response.request().method() === "POST") statuses.push(response.status()); });
  for (const origin of [`http://evil.test:${other.port}`, `http://localhost:${other.port}`, `http://127.0.0.1:${other.port}`]) {
    await page.goto(`${origin}/`);
    for (const type of ["text/plain", "form", "", "application/x-www-form-urlencoded"]) {
      const found = await page.evaluate(send, { url: `${guard.url}/v1/embeddings`, type, mode: "no-cors" });
      assert.equal(found.type, "opaque", `${origin} ${type}: ${JSON.stringify(found)}`);
      assert.equal(found.text, "");
    }
    const asked = await page.evaluate(send, { url: `${guard.url}/v1/embeddings`, type: "application/json", mode: "cors" });
    assert.ok(asked.error, JSON.stringify(asked));
  }
  assert.ok(statuses.length >= 12 && statuses.every((status) => status === 403), String(statuses));
  other.close();

  // The page's own requests, under each of its names.
  for (const name of ["127.0.0.1", "localhost", "app.localhost"]) {
    const answer = await page.goto(`http://${name}:${port}/`);
    assert.equal(answer.status(), 200, name);
    const found = await page.evaluate(send, { url: "/v1/embeddings", type: "application/json", mode: "same-origin" });
    assert.equal(found.status, 200, name);
  }
  assert.equal(await computed(guard.url), before + 3, "only the page's own texts were computed");
  return "3 foreign origins";
}
