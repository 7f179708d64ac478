// What runs: model, machine, queue, and latency as it happens. Asks only while it is in sight.

import { $, bdi, el, notice } from "./dom.js";
import { get, getText, trips } from "./api.js";
import { draw, SPAN_MS } from "./chart.js";
import { int, t } from "./i18n.js";
import { buckets, quantile, since } from "./metrics.js";
import { ms } from "./scores.js";
import { changes } from "./state.js";

const EVERY_MS = 2000;
/** Readings that a quantile looks back on. */
const WINDOW = 5;

let visible = false;
let timer = null;
let last = null;
let readings = [];
let fromMetrics = true;
const lines = { p50: [], p95: [] };

export function initStatus() {
  document.addEventListener("visibilitychange", schedule);
  changes.addEventListener("lang", show);
  changes.addEventListener("theme", show);
  new ResizeObserver(() => { if (last) chart(); }).observe($("chart"));
}

export function setVisible(on) {
  visible = on;
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (visible && !document.hidden) poll();
}

async function poll() {
  clearTimeout(timer);
  try {
    last = await get("v1/status");
    notice($("status-error"), "");
    await read();
    show();
  } catch (error) {
    notice($("status-error"), error.message);
    // The key was refused or not given: asked for again when the view is opened again, not every two seconds.
    if (error.status === 401) return;
  }
  clearTimeout(timer);
  if (visible && !document.hidden) timer = setTimeout(poll, EVERY_MS);
}

/** Adds a point to the lines: from the histogram where there is one, else what the status says. */
async function read() {
  const at = Date.now();
  let points = { p50: last.latency?.p50_ms, p95: last.latency?.p95_ms };
  // Without metrics (an older server, or a key that may not read them) they are not asked for again.
  const histogram = fromMetrics ? await getText("metrics").then((text) => buckets(text, "trivec_encode_seconds"), () => null) : null;
  fromMetrics = histogram !== null;
  if (histogram) {
    readings.push(histogram);
    readings = readings.slice(-WINDOW);
    const recent = readings.length > 1 ? since(readings[0], histogram) : histogram;
    const of = (q) => { const seconds = quantile(recent, q); return seconds === null ? null : seconds * 1000; };
    points = { p50: of(0.5), p95: of(0.95) };
  }
  for (const [name, value] of Object.entries(points)) {
    if (Number.isFinite(value)) lines[name].push({ at, ms: value });
    lines[name] = lines[name].filter((point) => point.at > at - SPAN_MS);
  }
}

function uptime(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

function show() {
  if (!last) return;
  const { model, queue, latency } = last;
  const tile = (name, value, note) => el("div", { class: "tile" }, el("div", { class: "k", text: name }), el("div", { class: "v" }, bdi(value)), el("div", { class: "s" }, bdi(note ?? "")));
  $("tiles").replaceChildren(
    tile(t("m.name"), String(model.name), String(model.weights)),
    tile("p50", ms(latency?.p50_ms), `p95 ${ms(latency?.p95_ms)} · ${t("status.requests", { n: int(latency?.count ?? 0) })}`),
    tile(t("status.queue"), int(queue?.depth ?? 0), t("status.cost", { cost: int(Math.round(queue?.cost ?? 0)), limit: int(Math.round(queue?.limit ?? 0)) })),
    tile(t("status.speed"), int(Math.round(last.tokens_s ?? 0)), t("status.tokens_s")),
    tile(t("m.threads"), int(last.threads), String(last.isa)),
    tile(t("status.uptime"), uptime(last.uptime_s), t("status.version", { v: last.version })),
  );
  const modes = (Array.isArray(model.modes) ? model.modes : Object.keys(model.modes ?? {}).filter((name) => model.modes[name])).map((name) => t(`score.${name}`)).join(", ");
  const facts = {
    "m.name": model.name, "m.weights": model.weights, "m.layers": model.layers, "m.hidden": model.hidden,
    "m.max_length": t("m.tokens", { n: int(model.max_length) }), "m.modes": modes, "m.dense_dim": model.dense_dim ?? "–",
    "m.colbert_dim": model.colbert_dim ?? "–", "m.isa": last.isa, "m.threads": last.threads, "m.version": last.version,
  };
  $("model-facts").replaceChildren(...Object.entries(facts).map(([name, value]) => el("div", {}, el("dt", { text: t(name) }), el("dd", {}, bdi(String(value))))));
  chart();
}

function chart() {
  draw($("chart"), [
    { points: lines.p95, ink: "--fair" }, { points: lines.p50, ink: "--accent" }, { points: trips, ink: "--mark", dots: true },
  ], Date.now());
  const key = (ink, text) => { const i = el("i"); i.style.background = `var(${ink})`; return el("li", {}, i, text); };
  $("chart-legend").replaceChildren(key("--accent", "p50"), key("--fair", "p95"), key("--mark", t("latency.trip")));
  $("latency-note").textContent = t(fromMetrics ? "latency.metrics" : "latency.status");
  $("chart").setAttribute("aria-label", t("latency.chart", { p50: ms(lines.p50.at(-1)?.ms), p95: ms(lines.p95.at(-1)?.ms) }));
}
