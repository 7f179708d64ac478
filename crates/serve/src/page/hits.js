// What a search found: a card a document, with bars of the arms, the sentence that carried it, and why.

import { $, bdi, el, notice, oneLine, readable } from "./dom.js";
import { int, t } from "./i18n.js";
import { four } from "./scores.js";
import { explain, mountWhy } from "./why.js";

const ARMS = ["dense", "words", "sparse", "colbert"];
/** Characters of a document that are shown at once. */
const SHOWN_CHARS = 20_000;

let shown = null;

/** Shows an answer's hits; `more` is called for further ones, if there may be any. `compareIn` opens two texts in the other view. */
export function showHits(answer, { query, more, compareIn }) {
  closeWhy();
  shown = { answer, query, open: null };
  const most = answer.hits.reduce((most, hit) => Math.max(most, hit.arms.sparse?.score ?? 0), 0);
  $("hits").replaceChildren(...answer.hits.map((hit, i) => card(hit, i, most, compareIn)));
  $("hits-more").hidden = !more;
  $("hits-more").onclick = more;
}

export function clearHits() {
  closeWhy();
  shown = null;
  $("hits").replaceChildren();
  $("hits-more").hidden = true;
}

/** Puts the explanation away, so that it can be shown elsewhere. */
function closeWhy() {
  shown?.open?.controller.abort();
  shown?.open?.button.setAttribute("aria-expanded", "false");
  if (shown) shown.open = null;
  mountWhy($("result"));
}

function card(hit, at, most, compareIn) {
  const { document: doc, explanation } = hit;
  const why = el("button", { type: "button", class: "why-hit", "aria-expanded": "false", text: t("hit.why") });
  const box = el("div", { class: "hit-why" });
  why.addEventListener("click", () => toggle(hit, why, box));
  const node = el("li", { class: "card hit", tabindex: at === 0 ? "0" : "-1", "data-key": doc.key, onkeydown: (event) => step(event, node, why) },
    el("div", { class: "hit-head" },
      el("span", { class: "hit-rank num", text: String(hit.rank) }),
      el("h2", { class: "hit-title" }, bdi(oneLine(doc.title || doc.key, 160), { lang: doc.lang })),
      doc.title ? el("span", { class: "muted small hit-key" }, bdi(oneLine(doc.key, 80))) : null,
      // `und` is the code of a text whose language was not found out.
      hit.lang && hit.lang !== "und" ? el("span", { class: "tag", text: oneLine(hit.lang, 16) }) : null,
      el("span", { class: "hit-score num", title: t("hit.score"), text: hit.score.toFixed(3) })),
    el("div", { class: "hit-body" },
      el("div", { class: "hit-text" }, snippet(hit), matches(explanation), metadata(doc)),
      el("div", { class: "hit-bars" }, ...ARMS.map((arm) => bar(arm, hit.arms, most)))),
    el("div", { class: "row hit-actions" }, why,
      el("button", { type: "button", text: t("hit.compare"), onclick: () => compareIn(shown.query, doc.text) }), whole(doc)),
    box);
  return node;
}

function bar(arm, arms, most) {
  const found = arm === "words" ? (arms.bm25 ? { rank: arms.bm25.rank, score: arms.share } : null) : arms[arm];
  const value = found?.score ?? null;
  const length = value === null ? 0 : arm === "sparse" ? value / (most || 1) : value;
  const fill = el("div", { class: "fill" });
  fill.style.width = `${Math.min(1, Math.max(0, length)) * 100}%`;
  const number = value === null ? "–" : arm === "words" ? `${Math.round(value * 100)} %` : value.toFixed(3);
  return el("div", { class: `arm ${arm}`, "data-arm": arm, title: t(`arm.${arm}.title`, { score: four(value) }) },
    el("span", { class: "name", text: t(`arm.${arm}`) }),
    el("div", { class: "track", "aria-hidden": "true" }, fill),
    el("span", { class: "num", text: number }),
    el("span", { class: "num muted place", text: found?.rank ? `#${int(found.rank)}` : "" }));
}

function snippet({ document: doc, explanation }) {
  const box = el("p", { class: "snippet", dir: "auto", lang: doc.lang });
  const parts = explanation?.snippet ?? [];
  if (parts.length === 0) {
    box.append(oneLine(doc.text, 320));
    return box;
  }
  if (explanation.more_before) box.append("… ");
  for (const { text, mark } of parts) {
    const clean = oneLine(text, 4000);
    box.append(mark ? el("mark", { class: mark === "word" ? "word" : "meaning", text: clean }) : clean);
  }
  if (explanation.more_after) box.append(" …");
  return box;
}

/** The question's words that were found, and those that were not. */
function matches(explanation) {
  const words = explanation?.words ?? [];
  if (words.length === 0) return null;
  const found = words.filter((word) => word.found);
  if (found.length === 0) return el("p", { class: "muted small", text: t("hit.meaning") });
  return el("p", { class: "small matches" }, el("span", { class: "muted", text: `${t("hit.words")} ` }),
    ...found.slice(0, 24).map((word) => bdi(readable(word.word), { class: "tag" })));
}

function metadata(doc) {
  const entries = Object.entries(doc.metadata ?? {});
  if (entries.length === 0) return null;
  const shown = ([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`;
  return el("p", { class: "muted small" }, bdi(oneLine(entries.slice(0, 12).map(shown).join(" · "), 300)));
}

function whole(doc) {
  const text = doc.text.length > SHOWN_CHARS ? `${doc.text.slice(0, SHOWN_CHARS)}…` : doc.text;
  const body = el("pre", { dir: "auto", lang: doc.lang, tabindex: "0", role: "region", "aria-label": t("hit.text") });
  return el("details", { class: "whole", ontoggle: () => { body.textContent = text; } }, el("summary", { text: t("hit.text") }), body);
}

/** Opens what explains a hit, in it, and closes the one that was open. */
function toggle(hit, button, box) {
  const isOpen = shown.open?.button === button;
  closeWhy();
  if (isOpen) return;
  const controller = new AbortController();
  shown.open = { button, controller };
  button.setAttribute("aria-expanded", "true");
  mountWhy(box);
  const { query } = shown;
  const text = hit.document.title ? `${hit.document.title}\n${hit.document.text}` : hit.document.text;
  // Of a text that was not counted yet: more tokens than this it hardly has.
  const tokens = hit.tokens ?? [query, text].map((one) => Math.min(8192, Math.ceil(one.length / 2) + 2));
  explain(query, text, tokens, controller.signal);
}

/** Arrows go from hit to hit, Enter says why, Escape goes back to the question. */
function step(event, node, why) {
  if (event.target !== node) return;
  const to = { ArrowDown: node.nextElementSibling, ArrowUp: node.previousElementSibling ?? $("search-query"), Escape: $("search-query"), Home: node.parentElement.firstElementChild, End: node.parentElement.lastElementChild }[event.key];
  if (event.key === "Enter") { event.preventDefault(); why.click(); return; }
  if (!to) return;
  event.preventDefault();
  focusHit(to);
}

export function focusHit(node) {
  if (!node) return;
  if (node.classList.contains("hit")) {
    for (const other of node.parentElement.children) other.tabIndex = -1;
    node.tabIndex = 0;
  }
  node.focus();
}

export const firstHit = () => $("hits").firstElementChild;

/** Says an answer in a line. */
export function summary(answer) {
  const { timings } = answer;
  const parts = [
    t(answer.in_chunks ? "search.summary.entries" : "search.summary", { n: int(answer.hits.length), all: int(answer.searched), ms: timings.total_ms.toFixed(1) }),
    answer.best_share < 0.05 ? t("search.by.meaning") : t("search.share", { percent: Math.round(answer.best_share * 100) }),
    answer.query_truncated ? t("search.truncated") : "",
  ];
  return parts.filter(Boolean).join(t("sentence"));
}

export const say = (text) => notice($("search-summary"), text);
