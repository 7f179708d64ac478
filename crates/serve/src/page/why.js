// Why two texts match: token weights, shared tokens, and who is nearest to whom.

import { $, bdi, el, notice, readable } from "./dom.js";
import { post } from "./api.js";
import { Heatmap } from "./heatmap.js";
import { int, t } from "./i18n.js";
import { four } from "./scores.js";
import { changes } from "./state.js";

/** Cells of a matrix that are fetched without asking: about 10 MB of JSON. */
const CELLS = 1_000_000;
/** Tokens and rows shown before "show more": a long text stays responsive. */
const PAGE = 1000;
const SIDES = ["a", "b"];

let shown = null;
let heat = null;

export function initWhy() {
  heat = new Heatmap($("heat"), (row, column) => {
    if (row === null) unhover();
    else light({ side: 0, index: row + 1, partner: column + 1 });
  });
  changes.addEventListener("lang", () => { if (shown) render(shown.answer); });
  changes.addEventListener("theme", () => heat.recolour());
}

/** Moves the explanation to where it is wanted: there is one, and two views that show it. */
export function mountWhy(box) {
  if ($("why").parentElement === box) return;
  clearWhy();
  box.append($("why"));
}

export function clearWhy() {
  shown = null;
  $("why-body").hidden = true;
  $("why-ask").hidden = true;
  notice($("why-error"), "");
}

/** Fetches and shows the explanation of a pair; asks first if its matrix is large. */
export function explain(a, b, tokens, signal) {
  const cells = (tokens[0] - 1) * (tokens[1] - 1);
  const go = async () => {
    $("why-ask").hidden = true;
    notice($("why-error"), "");
    try {
      const { answer } = await post("v1/explain", { a, b }, signal);
      if (!signal.aborted) render(answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      clearWhy();
      notice($("why-error"), error.message);
    }
  };
  if (cells <= CELLS) return go();
  clearWhy();
  $("why-ask").hidden = false;
  $("why-ask-text").textContent = t("why.big", { a: int(tokens[0]), b: int(tokens[1]), mb: int(Math.ceil(cells / 1e5)) });
  $("why-go").onclick = go;
  return null;
}

const isStart = (tokens, i) => i === 0;
const isEnd = (tokens, i) => i > 0 && i === tokens.length - 1;

/** The row-major matrix of the alignment, and for each column the row that is nearest. */
function matrixOf(alignment) {
  if (!alignment || alignment.matrix.length === 0) return null;
  const [n, m] = [alignment.matrix.length, alignment.matrix[0].length];
  const values = new Float32Array(n * m);
  alignment.matrix.forEach((row, i) => values.set(row, i * m));
  const nearest = new Int32Array(m);
  for (let j = 0; j < m; j++) for (let i = 1; i < n; i++) if (values[i * m + j] > values[nearest[j] * m + j]) nearest[j] = i;
  return { n, m, values, best: alignment.best, nearest };
}

function render(answer) {
  const tokens = SIDES.map((side) => answer[side].tokens);
  const shared = new Map(answer.shared.map((token) => [token.id, token]));
  const matrix = matrixOf(answer.alignment);
  shown = { answer, tokens, shared, matrix, chips: [[], []], rows: [], lit: [] };
  $("why-body").hidden = false;
  $("readout").textContent = "";
  $("tokens").replaceChildren(...SIDES.map((_, side) => tokenList(side)));
  renderShared(answer);
  $("align-list").hidden = !matrix;
  if (matrix) {
    heat.show(matrix, tokens.map((list) => list.slice(1).map((token) => readable(token.piece))));
    renderAlignment();
  } else {
    heat.clear();
    $("heat").replaceChildren(el("p", { class: "muted", text: t("alignment.none") }));
  }
}

function paged(items, make, into) {
  let done = 0;
  const more = el("button", { type: "button", class: "chip" });
  const next = () => {
    const part = document.createDocumentFragment();
    const end = Math.min(items.length, done + PAGE);
    for (; done < end; done++) part.append(make(items[done], done));
    more.remove();
    into.append(part);
    if (done < items.length) { more.textContent = t("more", { n: int(items.length - done) }); into.after(more); }
  };
  more.addEventListener("click", next);
  return next;
}

function tokenList(side) {
  const list = shown.tokens[side];
  const heaviest = Math.max(1e-9, ...SIDES.map((_, s) => shown.tokens[s].reduce((max, token) => Math.max(max, token.weight ?? 0), 0)));
  const name = t(`text.${SIDES[side]}`);
  const chips = el("div", { class: "chips", role: "listbox", "aria-label": t("tokens.of", { side: name, n: int(list.length) }) });
  const box = el("div", { class: "tokens" }, el("h4", { text: t("tokens.of", { side: name, n: int(list.length) }) }));
  box.append(chips);
  paged(list, (token, i) => {
    const edge = isStart(list, i) || isEnd(list, i);
    const special = edge || token.special;
    const word = token.piece.startsWith("▁");
    const chip = el("bdi", {
      class: `tok${special ? " special" : ""}${word && !special ? " word" : ""}${!edge && shown.shared.has(token.id) ? " shared" : ""}`,
      role: "option", "aria-selected": "false", tabindex: i === Math.min(1, list.length - 1) ? "0" : "-1", dir: "auto",
      "data-i": String(i), "aria-label": describe(side, i), text: readable(token.piece),
    });
    if (!edge && token.weight) chip.style.setProperty("--w", (token.weight / heaviest).toFixed(3));
    shown.chips[side][i] = chip;
    return chip;
  }, chips)();
  const at = (event) => event.target.closest?.(".tok");
  chips.addEventListener("mouseover", (event) => { const chip = at(event); if (chip) light({ side, index: Number(chip.dataset.i) }); });
  chips.addEventListener("mouseleave", unhover);
  chips.addEventListener("focusin", (event) => { const chip = at(event); if (chip) light({ side, index: Number(chip.dataset.i) }); });
  chips.addEventListener("focusout", () => light(null));
  chips.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const chip = at(event);
    if (!chip || !(event.key in steps)) return;
    event.preventDefault();
    const all = shown.chips[side];
    const to = all[Math.min(all.length - 1, Math.max(0, Number(chip.dataset.i) + steps[event.key]))];
    chip.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  return box;
}

/** The pointer has left: dark again, unless the keyboard is at a token. */
function unhover() {
  if (!document.activeElement?.closest("#why-body .tok, #why-body canvas, #why-body tr")) light(null);
}

/** What is nearest to token `index` of `side`: indices on the other side, and for A the cosine. */
function partners(side, index) {
  const { matrix } = shown;
  if (!matrix || index === 0) return { indices: [], cosine: null };
  const at = index - 1;
  if (side === 0) {
    if (at >= matrix.n) return { indices: [], cosine: null };
    const column = matrix.best[at];
    return { indices: [column + 1], cosine: matrix.values[at * matrix.m + column] };
  }
  if (at >= matrix.m) return { indices: [], cosine: null };
  const rows = [];
  for (let i = 0; i < matrix.n && rows.length < 64; i++) if (matrix.best[i] === at) rows.push(i + 1);
  const row = rows.length === 1 ? rows[0] - 1 : matrix.nearest[at];
  return { indices: rows.length ? rows : [row + 1], cosine: rows.length > 1 ? null : matrix.values[row * matrix.m + at] };
}

function describe(side, index) {
  const list = shown.tokens[side];
  const token = list[index];
  const parts = [readable(token.piece)];
  if (isStart(list, index)) parts.push(t("token.start"));
  if (isEnd(list, index)) parts.push(t("token.end"));
  if (token.weight !== null && token.weight !== undefined) parts.push(t("token.weight", { w: four(token.weight) }));
  const { indices, cosine } = partners(side, index);
  const pieces = indices.map((i) => readable(shown.tokens[1 - side][i]?.piece ?? "")).join(", ");
  if (indices.length === 1 && cosine !== null) parts.push(t("token.best", { side: t(`text.${SIDES[1 - side]}`), piece: pieces, sim: cosine.toFixed(2) }));
  else if (indices.length) parts.push(t("token.nearest.to", { pieces }));
  return parts.join(" · ");
}

/** Lights a token and its partners everywhere: `{side, index, partner?}`, or nothing. */
function light(what) {
  if (!shown) return;
  for (const node of shown.lit) {
    node.classList.remove("here", "lit", "on");
    if (node.hasAttribute("aria-selected")) node.setAttribute("aria-selected", "false");
  }
  shown.lit = [];
  if (!what) { heat.mark(null); $("readout").replaceChildren(); return; }
  const { side, index } = what;
  const on = (node, name) => { if (node) { node.classList.add(name); shown.lit.push(node); } };
  const own = shown.chips[side][index];
  on(own, "here");
  own?.setAttribute("aria-selected", "true");
  const indices = what.partner === undefined ? partners(side, index).indices : [what.partner];
  for (const i of indices) on(shown.chips[1 - side][i], "lit");
  for (const row of side === 0 ? [index] : indices) on(shown.rows[row - 1], "on");
  if (shown.matrix && index > 0) heat.mark(side === 0 ? { row: index - 1, column: (indices[0] ?? 0) - 1 } : { row: (indices[0] ?? 0) - 1, column: index - 1 });
  let text = describe(side, index);
  if (what.partner !== undefined) {
    const { matrix, tokens } = shown;
    const value = matrix.values[(index - 1) * matrix.m + what.partner - 1];
    text = `${readable(tokens[0][index].piece)} × ${readable(tokens[1][what.partner].piece)} · ${t("similarity")} ${value.toFixed(4)}`;
  }
  $("readout").replaceChildren(bdi(text));
}

function table(heads, caption) {
  const body = el("tbody");
  const node = el("table", { class: "plain" }, el("caption", { class: "sr", text: caption }),
    el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => (text ? el("th", { scope: "col", class: kind, text }) : el("td"))))), body);
  return { node, body };
}

function renderShared(answer) {
  const box = $("shared");
  if (answer.scores.sparse === null) { box.replaceChildren(el("p", { class: "muted", text: t("no.sparse") })); return; }
  if (answer.shared.length === 0) { box.replaceChildren(el("p", { class: "muted", text: t("shared.none") })); return; }
  const rows = [...answer.shared].sort((x, y) => y.product - x.product || x.id - y.id);
  const { node, body } = table([[t("shared.token")], ["A", "r"], ["", "r"], ["B", "r"], [t("shared.product"), "r"]], t("shared"));
  paged(rows, (token) => {
    const first = [0, 1].map((side) => shown.tokens[side].findIndex((other) => other.id === token.id));
    const row = el("tr", {
      tabindex: "0", "data-id": String(token.id),
      onmouseenter: () => lightShared(token.id), onfocus: () => lightShared(token.id), onmouseleave: unhover, onblur: () => light(null),
    },
      el("td", {}, bdi(readable(token.piece))), el("td", { class: "r num", text: token.weight_a.toFixed(3) }), el("td", { class: "r muted", text: "×" }),
      el("td", { class: "r num", text: token.weight_b.toFixed(3) }), el("td", { class: "r num", text: four(token.product) }));
    row.dataset.first = first.join(",");
    return row;
  }, body)();
  const sum = el("tfoot", {}, el("tr", {}, el("td", { colspan: "4", text: t("shared.sum") }), el("td", { class: "r num", text: four(answer.scores.sparse) })));
  node.append(sum);
  box.replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("shared") }, node));
}

/** Lights every occurrence of a shared token in both texts. */
function lightShared(id) {
  light(null);
  shown.tokens.forEach((list, side) => list.forEach((token, i) => {
    const chip = token.id === id ? shown.chips[side][i] : null;
    if (chip) { chip.classList.add("lit"); shown.lit.push(chip); }
  }));
  const token = shown.shared.get(id);
  $("readout").replaceChildren(bdi(`${readable(token.piece)} · ${four(token.weight_a)} × ${four(token.weight_b)} = ${four(token.product)}`));
}

function renderAlignment() {
  const { matrix, tokens } = shown;
  const { node, body } = table([["A"], ["B"], [t("similarity"), "r"], [""]], t("alignment.list"));
  paged([...matrix.best], (column, i) => {
    const value = matrix.values[i * matrix.m + column];
    const fill = el("div", { class: "fill" });
    fill.style.width = `${Math.min(1, Math.max(0, value)) * 100}%`;
    const row = el("tr", { onmouseenter: () => light({ side: 0, index: i + 1 }), onmouseleave: unhover },
      el("td", {}, bdi(readable(tokens[0][i + 1]?.piece ?? ""))), el("td", {}, "→ ", bdi(readable(tokens[1][column + 1]?.piece ?? ""))),
      el("td", { class: "r num", text: value.toFixed(2) }), el("td", { class: "meter" }, el("div", { class: "track", "aria-hidden": "true" }, fill)));
    shown.rows[i] = row;
    return row;
  }, body)();
  $("align").replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("alignment.list") }, node));
}
