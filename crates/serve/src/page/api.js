// The HTTP interface. Every failure is an ApiError that says what the server said.

import { $ } from "./dom.js";
import { remembered } from "./state.js";
import { has, t } from "./i18n.js";

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

/** Round trips that this page measured, newest last: `{at, ms}`. */
export const trips = [];

let asking = null;

/** Asks for a key once, however many requests wait for it. Resolves to whether one was given. */
function askKey() {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    const input = $("key");
    input.value = "";
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok" && input.value.trim() !== "";
      if (given) remembered.set("key", input.value.trim(), "sessionStorage");
      input.value = "";
      asking = null;
      resolve(given);
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** Seconds of a `Retry-After` header, which is a number or a date. */
function retryAfter(header) {
  if (!header) return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000);
}

/** What the service said, in the page's language where that has words for it; the service's own words have the details. */
function said(found, status) {
  const message = typeof found === "string" ? found : found.message;
  if (!message) return t("error.status", { status });
  const key = `error.code.${found.code}`;
  return has(key) ? t("error.said", { what: t(key), message }) : message;
}

async function request(path, options, as) {
  for (;;) {
    const key = remembered.get("key", "sessionStorage");
    const headers = { ...options.headers };
    if (key) headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(t("error.network"));
    }
    if (response.status === 401 && !options.quiet) {
      const current = remembered.get("key", "sessionStorage");
      // Another request was given a new key meanwhile.
      if (current && current !== key) continue;
      remembered.set("key", null, "sessionStorage");
      if (await askKey()) continue;
    }
    let body;
    try {
      if (response.ok && as === "bytes") return await response.arrayBuffer();
      body = await response.text();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(t("error.cut"));
    }
    if (response.ok && as === "text") return body;
    let json = null;
    try { json = JSON.parse(body); } catch { /* told below */ }
    if (response.ok && json !== null) return json;
    if (response.ok) throw new ApiError(t("error.answer"));
    const found = json?.error ?? {};
    throw new ApiError(said(found, response.status), {
      status: response.status, code: found.code, param: found.param, retryAfter: retryAfter(response.headers.get("Retry-After")),
    });
  }
}

export async function post(path, body, signal) {
  const started = performance.now();
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  const answer = await request(path, options);
  const roundTrip = performance.now() - started;
  trips.push({ at: Date.now(), ms: roundTrip });
  if (trips.length > 600) trips.shift();
  return { answer, roundTrip };
}

export const get = (path, quiet = false) => request(path, { quiet });
export const getText = (path) => request(path, { quiet: true }, "text");

/** An answer of another kind than JSON, as bytes. */
export function postBytes(path, body, accept, signal) {
  const headers = { "Content-Type": "application/json", Accept: accept };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal }, "bytes");
}

export const wait = (seconds, signal) => new Promise((resolve, reject) => {
  const stop = () => { clearTimeout(timer); reject(new DOMException("cancelled", "AbortError")); };
  const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, seconds * 1000);
  if (signal?.aborted) stop();
  else signal?.addEventListener("abort", stop, { once: true });
});
