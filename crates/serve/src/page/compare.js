// Two texts, their scores, and what is said about them.

import { $, bdi, cut, el, isBroken, isLost, MAX_CHARS, notice } from "./dom.js";
import { ApiError, post } from "./api.js";
import { int, t } from "./i18n.js";
import { four, mix, ms, NAMES, percent, verdict } from "./scores.js";
import { changes, DEFAULT_THRESHOLDS, setThresholds, setWeights, state, validThresholds, validWeights } from "./state.js";
import { clearWhy, explain, mountWhy } from "./why.js";

export const EXAMPLES = [
  ["我喜欢阅读书籍", "I enjoy reading books"],
  ["人工智能正在改变世界", "AI is transforming the world"],
  ["今天天气很好", "The weather is nice today"],
  ["北京是中国的首都", "Paris is the capital of France"],
];
const FIRST = ["苹果公司发布新手机", "Apple launched a new iPhone"];
const PRESETS = [[1, 1, 1], [0.4, 0.2, 0.4], [1, 0.3, 1]];
const MODES = ["dense", "sparse", "colbert"];
/** Longer links break in mail programs and chat windows. */
const LINK_CHARS = 6000;

let result = null;
let controller = null;

export function initCompare() {
  $("compare-form").addEventListener("submit", (event) => { event.preventDefault(); analyse(); });
  $("compare-form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); analyse(); }
  });
  for (const area of [$("a"), $("b")]) guard(area);
  $("swap").addEventListener("click", () => {
    [$("a").value, $("b").value] = [$("b").value, $("a").value];
    if (result) analyse();
  });
  $("link").addEventListener("click", copyLink);
  $("examples").append(...EXAMPLES.map(([a, b]) => el("button", {
    type: "button", class: "chip", lang: "zh", title: `${a} / ${b}`, text: a, onclick: () => compare(a, b),
  })));
  initSliders();
  initThresholds();
  [$("a").value, $("b").value] = FIRST;
  changes.addEventListener("weights", () => { showWeights(); showBars(); });
  changes.addEventListener("thresholds", () => { showThresholds(); showVerdict(); });
  changes.addEventListener("lang", () => { nameSliders(); nameThresholds(); show(); warnOfLost(); });
}

/** Puts a text into a field. A book would freeze it: what is beyond `MAX_CHARS` is left out, and the page says so. */
function fill(area, text) {
  const kept = cut(text);
  if (area.value !== kept) area.value = kept;
  notice($("cut"), kept.length < text.length ? t("cut", { n: int(kept.length), all: int(text.length) }) : "");
}

function guard(area) {
  area.addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.getData("text/plain") ?? "";
    const { selectionStart: from, selectionEnd: to, value } = area;
    if (value.length - (to - from) + pasted.length <= MAX_CHARS) return;
    event.preventDefault();
    fill(area, value.slice(0, from) + pasted + value.slice(to));
    warnOfLost();
  });
  area.addEventListener("input", () => { fill(area, area.value); warnOfLost(); });
}

/** Characters that were lost before the texts came here are in no score. */
function warnOfLost() {
  const sides = ["a", "b"].filter((side) => isLost($(side).value)).map((side) => t(`text.${side}`));
  notice($("lost"), sides.length ? t("lost", { which: sides.join(t("and")) }) : "");
}

/** Fills in two texts and compares them. */
export function compare(a, b) {
  fill($("a"), a);
  const first = $("cut").textContent;
  fill($("b"), b);
  if ($("cut").hidden) notice($("cut"), first);
  return analyse();
}

/** What a link says: `#a=…&b=…&w=…`; `null` if it holds no texts. */
export function fromHash(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (!parts.has("a") || !parts.has("b")) return null;
  const weights = (parts.get("w") ?? "").split(",").map(Number);
  return { a: parts.get("a"), b: parts.get("b"), weights: parts.has("w") && validWeights(weights) ? weights : null };
}

function linkFor(a, b) {
  const parts = new URLSearchParams({ a, b });
  if (state.weights.some((w) => w !== 1)) parts.set("w", state.weights.join(","));
  return `#${parts}`;
}

/** The address follows the comparison, so that it can be reopened or shared. It is never sent to the server. */
function updateAddress() {
  if (!result) return;
  const link = linkFor(result.a, result.b);
  history.replaceState(null, "", link.length <= LINK_CHARS ? link : "#compare");
}

async function copyLink() {
  const link = linkFor($("a").value, $("b").value);
  if (link.length > LINK_CHARS) { announce(t("link.long")); return; }
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(location.href);
    announce(t("linked"));
  } catch { announce(t("link.bar")); }
}

/** The view is shown again: what explains its texts may have been in another one meanwhile. */
export function openCompare() {
  if ($("why").parentElement === $("result") && !$("why-body").hidden) return;
  mountWhy($("result"));
  if (result && !controller?.signal.aborted) explain(result.a, result.b, result.row.tokens, controller.signal);
}

function announce(text) {
  $("announce").textContent = text;
  const button = $("link");
  button.textContent = text;
  setTimeout(() => { button.textContent = t("link"); }, 2500);
}

async function analyse() {
  const [a, b] = [$("a").value, $("b").value];
  notice($("compare-error"), "");
  if (a === "" || b === "") { notice($("compare-error"), t("empty")); $(a === "" ? "a" : "b").focus(); return; }
  warnOfLost();
  const broken = ["a", "b"].find((side) => isBroken($(side).value));
  if (broken) { notice($("compare-error"), t("broken", { which: t(`text.${broken}`) })); $(broken).focus(); return; }
  controller?.abort();
  const mine = controller = new AbortController();
  $("view-compare").setAttribute("aria-busy", "true");
  $("go").firstElementChild.textContent = t("analysing");
  try {
    const { answer, roundTrip } = await post("v1/score", { pairs: [[a, b]] }, mine.signal);
    const row = answer.data[0];
    result = { a, b, row, model: answer.model, timing: answer.timing ?? {}, roundTrip };
    show();
    updateAddress();
    mountWhy($("result"));
    explain(a, b, row.tokens, mine.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    result = null;
    $("result").hidden = true;
    clearWhy();
    const busy = error instanceof ApiError && error.status === 429 && error.retryAfter !== null;
    notice($("compare-error"), busy ? t("error.busy", { s: Math.ceil(error.retryAfter), message: error.message }) : error.message);
  } finally {
    if (controller === mine) {
      $("view-compare").removeAttribute("aria-busy");
      $("go").firstElementChild.textContent = t("analyse");
    }
  }
}

function show() {
  if (!result) return;
  $("result").hidden = false;
  showVerdict();
  showBars();
  showFacts();
}

function showVerdict() {
  if (!result) return;
  const { dense } = result.row;
  const hero = $("hero");
  $("scale").hidden = dense === null;
  if (dense === null || dense === undefined) {
    delete hero.dataset.verdict;
    $("percent").textContent = "–";
    $("verdict").textContent = "";
    $("verdict-text").textContent = t("no.dense");
    return;
  }
  const [near, related, unrelated] = state.thresholds;
  const word = verdict(dense, state.thresholds);
  hero.dataset.verdict = word;
  $("percent").textContent = percent(dense, state.thresholds);
  $("verdict").textContent = t(`verdict.${word}`);
  $("verdict-text").textContent = t(`says.${word}`, { near, related, unrelated });
  const at = (value) => `${Math.min(100, Math.max(0, value))}%`;
  const zone = (name, from, to) => {
    const i = el("i", { class: name });
    [i.style.left, i.style.right] = [at(from), `${100 - parseFloat(at(to))}%`];
    return i;
  };
  const mark = (name, value, text) => {
    const node = el(name, { text });
    node.style.left = at(value);
    return node;
  };
  $("scale").replaceChildren(
    zone("unrelated", 0, unrelated), zone("unclear", unrelated, related), zone("related", related, near), zone("near", near, 100),
    ...[unrelated, related, near].map((x) => mark("span", x, String(x))), mark("b", dense * 100),
  );
}

function showFacts() {
  const { row, timing, roundTrip, model } = result;
  const fact = (name, value) => el("div", {}, el("dt", { text: t(name) }), el("dd", {}, bdi(value)));
  $("facts").replaceChildren(
    fact("of.server", ms(timing.total_ms)), fact("queue", ms(timing.queue_ms)), fact("tokenize", ms(timing.tokenize_ms)),
    fact("encode", ms(timing.encode_ms)), fact("round.trip", ms(roundTrip)),
    fact("tokens", t("tokens.ab", { a: int(row.tokens[0]), b: int(row.tokens[1]) })), fact("model", String(model)),
  );
  const sides = ["text.a", "text.b"].filter((_, i) => row.truncated?.[i]);
  const read = row.tokens.filter((_, i) => row.truncated?.[i]);
  notice($("truncation"), sides.length ? t("truncated", { which: sides.map((side) => t(side)).join(t("and")), n: int(Math.max(...read)) }) : "");
}

function showBars() {
  if (!result) return;
  const scores = mix(result.row, state.weights);
  $("bars").replaceChildren(...NAMES.map((name) => {
    const value = scores[name];
    const fill = el("div", { class: "fill" });
    fill.style.width = `${Math.min(1, Math.max(0, value ?? 0)) * 100}%`;
    return el("div", { class: `bar-row${name.includes("+") ? " mixed" : ""}`, "data-score": name, title: name },
      el("span", { class: "name", text: t(`score.${name}`) }),
      el("div", { class: "track", "aria-hidden": "true" }, fill),
      el("span", { class: "num", text: four(value) }));
  }));
  const [wd, ws, wc] = state.weights;
  const undefinedMixes = NAMES.slice(3).filter((_, i) => wd + ws + (i ? wc : 0) === 0).map((name) => t(`score.${name}`));
  $("weights-note").textContent = undefinedMixes.length ? t("weights.undefined", { names: undefinedMixes.join(t("and")) }) : t("weights.fine");
}

function initSliders() {
  $("sliders").append(...MODES.map((mode, i) => el("div", {},
    el("label", { for: `w-${mode}` }, el("span", { id: `w-${mode}-name` }), el("output", { id: `w-${mode}-value`, class: "num", for: `w-${mode}` })),
    el("input", {
      id: `w-${mode}`, type: "range", min: "0", max: "1", step: "0.05",
      oninput: (event) => setWeights(state.weights.map((w, k) => (k === i ? event.target.valueAsNumber : w))),
      onchange: updateAddress,
    }))));
  $("presets").append(...PRESETS.map((weights) => el("button", {
    type: "button", class: "chip num", text: weights.join(" · "), onclick: () => { setWeights([...weights]); updateAddress(); },
  })));
  nameSliders();
  showWeights();
}

function nameSliders() {
  for (const mode of MODES) $(`w-${mode}-name`).textContent = t(`score.${mode}`);
}

function showWeights() {
  MODES.forEach((mode, i) => {
    const [slider, weight] = [$(`w-${mode}`), state.weights[i]];
    slider.max = String(Math.max(1, weight));
    slider.step = Math.abs(weight * 20 - Math.round(weight * 20)) < 1e-9 ? "0.05" : "any";
    slider.value = String(weight);
    $(`w-${mode}-value`).textContent = String(weight);
  });
}

function initThresholds() {
  const words = ["near-identical", "related", "unrelated"];
  $("thresholds").append(...words.map((word, i) => el("label", { for: `th-${i}` },
    el("span", { class: `tone ${word}`, id: `th-${i}-name` }),
    el("input", { id: `th-${i}`, type: "number", step: "any", min: "-100", max: "100", oninput: readThresholds }))));
  $("thresholds-reset").addEventListener("click", () => { setThresholds([...DEFAULT_THRESHOLDS]); notice($("thresholds-error"), ""); });
  nameThresholds();
  showThresholds();
}

function nameThresholds() {
  for (const i of [0, 1, 2]) $(`th-${i}-name`).textContent = t(`threshold.${i}`);
}

function readThresholds() {
  const found = [0, 1, 2].map((i) => $(`th-${i}`).valueAsNumber);
  const fine = validThresholds(found);
  notice($("thresholds-error"), fine ? "" : t("thresholds.bad"));
  if (fine) setThresholds(found);
}

function showThresholds() {
  for (const i of [0, 1, 2]) {
    const input = $(`th-${i}`);
    if (input.valueAsNumber !== state.thresholds[i]) input.value = String(state.thresholds[i]);
  }
}
