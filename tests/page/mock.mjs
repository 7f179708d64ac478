// A stand-in for the service: it speaks the routes that the page uses, with made-up numbers that obey the same arithmetic.
// `node mock.mjs [port]` serves the page too, which is handy while working on it.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";

const PAGE = fileURLToPath(new URL("../../crates/serve/src/page/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml" };
export const CSP = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";
const MAX_TOKENS = 512;
const DIM = 24;
const SAME = { 苹果: "apple", 手机: "iphone", 新: "new", 阅读: "reading", 书籍: "books", 今天: "today", 天气: "weather", 世界: "world" };

function hash(text) {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.codePointAt(0), 16777619);
  return h >>> 0;
}

function tokens(text) {
  const found = [...text.matchAll(/(\s*)([\p{Script=Han}]{1,2}|[\p{L}\p{N}]{1,8}|[^\s])/gu)];
  const pieces = found.map(([, space, word], i) => ((space || i === 0) && !/\p{Script=Han}/u.test(word) ? `▁${word}` : word));
  const truncated = pieces.length > MAX_TOKENS - 2;
  const kept = pieces.slice(0, MAX_TOKENS - 2).map((piece) => ({ id: 4 + (hash(piece) % 100_000), piece, weight: Math.fround(0.03 + (hash(`${piece}w`) % 200) / 1000) }));
  return { tokens: [{ id: 0, piece: "<s>", weight: 0 }, ...kept, { id: 2, piece: "</s>", weight: 0 }], truncated };
}

function vector(piece) {
  const word = piece.replace("▁", "").toLowerCase();
  let seed = hash(SAME[word] ?? word) || 1;
  const values = Array.from({ length: DIM }, () => {
    seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5;
    return (seed >>> 0) / 2 ** 32 - 0.42;
  });
  const norm = Math.hypot(...values);
  return values.map((x) => x / norm);
}

const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);

function embed(text) {
  const read = tokens(text);
  const rows = read.tokens.slice(1).map((token) => vector(token.piece));
  const sum = rows.reduce((all, row) => all.map((x, i) => x + row[i]), Array(DIM).fill(0));
  const norm = Math.hypot(...sum);
  const lexical = new Map();
  for (const token of read.tokens.slice(1, -1)) lexical.set(token.id, { ...token, weight: Math.max(token.weight, lexical.get(token.id)?.weight ?? 0) });
  return { ...read, rows, dense: sum.map((x) => x / norm), lexical };
}

function pair(a, b, [wd, ws, wc] = [1, 1, 1]) {
  const dense = Math.fround(dot(a.dense, b.dense));
  const sparse = Math.fround([...a.lexical.values()].reduce((sum, token) => sum + token.weight * (b.lexical.get(token.id)?.weight ?? 0), 0));
  const matrix = a.rows.map((row) => b.rows.map((other) => Math.fround(dot(row, other))));
  const best = matrix.map((row) => row.indexOf(Math.max(...row)));
  const colbert = Math.fround(matrix.reduce((sum, row, i) => sum + row[best[i]], 0) / matrix.length);
  const mean = (parts) => {
    const total = parts.reduce((sum, [, weight]) => sum + weight, 0);
    return total > 0 ? Math.fround(parts.reduce((sum, [value, weight]) => sum + value * weight, 0) / total) : null;
  };
  const scores = { colbert, sparse, dense, "sparse+dense": mean([[sparse, ws], [dense, wd]]), "colbert+sparse+dense": mean([[colbert, wc], [sparse, ws], [dense, wd]]) };
  const verdict = dense > 0.85 ? "near-identical" : dense > 0.6 ? "related" : dense < 0.3 ? "unrelated" : "unclear";
  return { scores, percent: Number((dense * 100).toFixed(2)), verdict, matrix, best };
}

const timing = { queue_ms: 0.02, tokenize_ms: 0.11, encode_ms: 2.31, total_ms: 2.6 };
const usage = (n) => ({ prompt_tokens: n, total_tokens: n });
const fail = (status, message, code) => ({ status, body: { error: { message, type: "invalid_request_error", code, param: null } } });

function score(body) {
  const pairs = body.pairs ?? (body.documents ?? []).map((document) => [body.query, document]);
  if (!Array.isArray(pairs) || pairs.length === 0) return fail(400, "expected at least one pair", "empty_input");
  let used = 0;
  const data = pairs.map(([x, y], index) => {
    const [a, b] = [embed(String(x)), embed(String(y))];
    used += a.tokens.length + b.tokens.length;
    const { scores, percent, verdict } = pair(a, b, body.weights);
    return { index, ...scores, percent, verdict, tokens: [a.tokens.length, b.tokens.length], truncated: [a.truncated, b.truncated] };
  });
  return { status: 200, body: { model: "mock", data, usage: usage(used), timing } };
}

function explain({ a: x, b: y, weights }) {
  if (typeof x !== "string" || typeof y !== "string") return fail(400, "expected two texts", "invalid_input");
  const [a, b] = [embed(x), embed(y)];
  const { scores, percent, verdict, matrix, best } = pair(a, b, weights);
  const shared = [...a.lexical.values()].filter((token) => b.lexical.has(token.id)).map((token) => {
    const other = b.lexical.get(token.id).weight;
    return { id: token.id, piece: token.piece, weight_a: token.weight, weight_b: other, product: Math.fround(token.weight * other) };
  }).sort((s, t) => s.id - t.id);
  const side = (e) => ({ tokens: e.tokens, truncated: e.truncated });
  return { status: 200, body: { model: "mock", scores, percent, verdict, a: side(a), b: side(b), shared, alignment: { matrix, best, score: scores.colbert }, usage: usage(a.tokens.length + b.tokens.length), timing } };
}

const started = Date.now();
let served = 0;
const status = () => ({
  model: { name: "mock", weights: "none", layers: 12, hidden: 384, max_length: MAX_TOKENS, modes: { dense: true, sparse: true, colbert: true }, dense_dim: DIM, colbert_dim: DIM },
  isa: "javascript", threads: 1, version: "0.0.0", uptime_s: (Date.now() - started) / 1000,
  queue: { depth: 0, limit: 256, cost: 0 }, latency: { p50_ms: 2.4, p95_ms: 4.1, count: served }, tokens_s: 21000,
});
const metrics = () => ["0.001", "0.0025", "0.005", "+Inf"].map((le, i) => `trivec_encode_seconds_bucket{le="${le}"} ${Math.floor(served * [0.1, 0.6, 1, 1][i])}`).join("\n");
const openapi = {
  openapi: "3.1.0", info: { title: "mock", version: "0" },
  paths: { "/v1/score": { post: { summary: "Score pairs", requestBody: { content: { "application/json": { schema: { type: "object", properties: { pairs: { type: "array", items: { type: "array", items: { type: "string" } } } } }, example: { pairs: [["a", "b"]] } } } }, responses: { 200: { description: "Scores" } } } } },
};

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > 4_000_000) return null;
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString());
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, "http://localhost");
  const json = (code, value) => response.writeHead(code, { "Content-Type": "application/json" }).end(JSON.stringify(value));
  if (request.method === "POST") {
    const handler = { "/v1/score": score, "/v1/explain": explain }[pathname];
    const read = await body(request);
    const result = !handler ? fail(404, "no such route", "not_found") : read === null ? fail(413, "the body is too large", "too_large") : handler(read);
    served++;
    await new Promise((resolve) => setTimeout(resolve, 2));
    return json(result.status, result.body);
  }
  if (pathname === "/health") return json(200, { status: "ok" });
  if (pathname === "/v1/status") return json(200, status());
  if (pathname === "/openapi.json") return json(200, await readFile(path.join(PAGE, "../openapi.json"), "utf8").then(JSON.parse, () => openapi));
  if (pathname === "/metrics") return response.writeHead(200, { "Content-Type": "text/plain" }).end(metrics());
  const name = path.basename(pathname === "/" ? "index.html" : pathname);
  const file = await readFile(path.join(PAGE, name)).catch(() => null);
  if (!file) return json(404, fail(404, "no such page", "not_found").body);
  return response.writeHead(200, { "Content-Type": TYPES[path.extname(name)] ?? "application/octet-stream", "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff" }).end(file);
}

/** Starts on 127.0.0.1; `port` 0 takes a free one. */
export function start(port = 0) {
  const server = createServer((request, response) => answer(request, response).catch((error) => {
    response.writeHead(400, { "Content-Type": "application/json" }).end(JSON.stringify(fail(400, error.message, "bad_request").body));
  }));
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve({ url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() })));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log((await start(Number(process.argv[2] ?? 8738))).url);
