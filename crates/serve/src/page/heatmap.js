// A matrix of cosines as a picture: rows of A, columns of B, the best match of every row framed.

import { colour, el } from "./dom.js";
import { t } from "./i18n.js";

const RAMPS = {
  light: ["#f4f7fb", "#c3d6f2", "#6d9be3", "#2459b3", "#0a2150"],
  dark: ["#1b2430", "#1f3e68", "#2d6cc0", "#7ab5ff", "#e4f0ff"],
};
/** More rows or columns than this are drawn as the largest of `k × k` cells. */
const BINS = 1024;
const LABEL = 96;

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** 256 colours between the stops of a ramp. */
function palette(stops) {
  const points = stops.map(rgb);
  return Array.from({ length: 256 }, (_, i) => {
    const x = (i / 255) * (points.length - 1);
    const k = Math.min(points.length - 2, Math.floor(x));
    return points[k].map((c, channel) => Math.round(c + (points[k + 1][channel] - c) * (x - k)));
  });
}
const level = (value) => Math.round(Math.min(1, Math.max(0, value)) * 255);
const dark = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b < 140;

export class Heatmap {
  /** `onpoint(row, column)` hears the cell under the pointer or the cursor, and `(null)` when there is none. */
  constructor(box, onpoint) {
    Object.assign(this, { box, onpoint, data: null, marked: null, cursor: null });
    this.canvas = el("canvas", { tabindex: "0", role: "img" });
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => this.onpoint(null));
    this.canvas.addEventListener("focus", () => this.#move(0, 0));
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.onpoint(null); });
    this.canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
      if (!(event.key in steps)) return;
      event.preventDefault();
      this.#move(...steps[event.key]);
    });
    this.width = 0;
    new ResizeObserver(() => {
      if (this.data && Math.abs(box.clientWidth - this.width) > 1) this.#draw();
    }).observe(box);
  }

  /** `matrix`: `{n, m, values, best}`; `labels`: the pieces of A and of B. */
  show(matrix, labels) {
    this.data = { ...matrix, labels };
    this.marked = this.cursor = null;
    this.canvas.setAttribute("aria-label", t("heat.label", { n: matrix.n, m: matrix.m }));
    this.k = Math.ceil(Math.max(matrix.n, matrix.m) / BINS);
    this.ramp = el("div", { class: "ramp" }, el("span", { text: "0" }), el("canvas", { width: "128", height: "10", "aria-hidden": "true" }), el("span", { text: "1" }));
    if (this.k > 1) this.ramp.append(el("span", { text: t("heat.pooled", { k: this.k }) }));
    this.box.replaceChildren(this.canvas, this.ramp);
    this.recolour();
  }

  clear() { this.data = null; }

  /** Marks a cell from outside, or none. */
  mark(cell) {
    if (!this.data || (cell?.row === this.marked?.row && cell?.column === this.marked?.column)) return;
    this.marked = cell;
    this.#paint();
  }

  recolour() {
    if (!this.data) return;
    const theme = getComputedStyle(document.documentElement).colorScheme;
    const isDark = theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    this.palette = palette(RAMPS[isDark ? "dark" : "light"]);
    this.inks = { text: colour("--muted"), strong: colour("--ink"), mark: colour("--mark") };
    const strip = this.ramp.querySelector("canvas").getContext("2d");
    for (let x = 0; x < 128; x++) { strip.fillStyle = `rgb(${this.palette[x * 2]})`; strip.fillRect(x, 0, 1, 10); }
    this.#cells();
    this.#draw();
  }

  /** One pixel a bin, drawn once for a matrix and a theme. */
  #cells() {
    const { n, m, values } = this.data;
    const { k } = this;
    [this.rows, this.columns] = [Math.ceil(n / k), Math.ceil(m / k)];
    this.image = el("canvas", { width: String(this.columns), height: String(this.rows) });
    const context = this.image.getContext("2d");
    const pixels = context.createImageData(this.columns, this.rows);
    const largest = new Float32Array(this.rows * this.columns).fill(-1);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < m; j++) {
        const bin = Math.floor(i / k) * this.columns + Math.floor(j / k);
        if (values[i * m + j] > largest[bin]) largest[bin] = values[i * m + j];
      }
    }
    largest.forEach((value, bin) => {
      const [r, g, b] = this.palette[level(value)];
      pixels.data.set([r, g, b, 255], bin * 4);
    });
    context.putImageData(pixels, 0, 0);
  }

  /** Chooses the sizes for the room there is, then paints. */
  #draw() {
    this.width = this.box.clientWidth;
    const context = this.canvas.getContext("2d");
    context.font = "12px system-ui, sans-serif";
    const { labels } = this.data;
    const widest = (list) => Math.min(LABEL, Math.max(...list.slice(0, 200).map((text) => context.measureText(text.slice(0, 20)).width)) + 10);
    const room = Math.max(120, this.width - 2);
    const roomy = this.k === 1 && this.columns <= 80 && this.rows <= 160;
    this.left = roomy ? Math.ceil(widest(labels[0])) : 0;
    this.top = roomy ? Math.ceil(widest(labels[1])) : 0;
    const least = this.columns > 256 ? 1 : roomy ? 14 : 4;
    this.cw = Math.min(84, Math.max(least, Math.floor((room - this.left) / this.columns)));
    this.ch = Math.min(34, Math.max(least, this.cw));
    const [width, height] = [this.left + this.cw * this.columns + 2, this.top + this.ch * this.rows + 2];
    const ratio = width * height > 4e6 ? 1 : window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    [this.canvas.style.width, this.canvas.style.height] = [`${width}px`, `${height}px`];
    this.ratio = ratio;
    this.#paint();
  }

  #paint() {
    const { left, top, cw, ch, rows, columns, ratio, k } = this;
    const { labels, best, values, m } = this.data;
    const c = this.canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    c.imageSmoothingEnabled = false;
    c.drawImage(this.image, left, top, cw * columns, ch * rows);
    c.font = "12px system-ui, sans-serif";
    c.textBaseline = "middle";
    if (left) {
      c.textAlign = "right";
      for (let i = 0; i < rows; i++) this.#label(c, labels[0][i], left - 6, top + ch * (i + 0.5), this.marked?.row === i);
      c.textAlign = "left";
      for (let j = 0; j < columns; j++) {
        c.save();
        c.translate(left + cw * (j + 0.5), top - 6);
        c.rotate(-Math.PI / 2);
        this.#label(c, labels[1][j], 0, 0, this.marked?.column === j);
        c.restore();
      }
    }
    if (k === 1 && cw >= 36 && ch >= 18 && rows * columns <= 900) {
      c.font = "11px ui-monospace, monospace";
      c.textAlign = "center";
      values.forEach((value, cell) => {
        c.fillStyle = dark(this.palette[level(value)]) ? "#fff" : "#10161e";
        c.fillText(value.toFixed(2), left + cw * ((cell % m) + 0.5), top + ch * (Math.floor(cell / m) + 0.5));
      });
    }
    c.strokeStyle = c.fillStyle = this.inks.mark;
    c.lineWidth = 2;
    best.forEach((column, row) => {
      const [x, y] = [left + cw * Math.floor(column / k), top + ch * Math.floor(row / k)];
      if (cw >= 8 && ch >= 8) c.strokeRect(x + 1, y + 1, cw - 2, ch - 2);
      else c.fillRect(x, y, Math.max(2, cw), Math.max(2, ch));
    });
    if (this.marked) {
      const [x, y] = [left + cw * Math.floor(this.marked.column / k), top + ch * Math.floor(this.marked.row / k)];
      c.strokeStyle = this.inks.strong;
      c.lineWidth = 1;
      c.strokeRect(left + 0.5, y + 0.5, cw * columns - 1, ch - 1);
      c.strokeRect(x + 0.5, top + 0.5, cw - 1, ch * rows - 1);
      c.lineWidth = 3;
      c.strokeRect(x + 0.5, y + 0.5, cw - 1, ch - 1);
    }
  }

  #label(c, text, x, y, strong) {
    const letters = [...(text ?? "").slice(0, 40)];
    c.fillStyle = strong ? this.inks.strong : this.inks.text;
    let shown = letters.join("");
    while (letters.length > 1 && c.measureText(shown).width > LABEL - 10) { letters.pop(); shown = `${letters.join("")}…`; }
    c.fillText(shown, x, y);
  }

  #point(event) {
    const { k, data } = this;
    const row = Math.floor((event.offsetY - this.top) / this.ch) * k;
    const column = Math.floor((event.offsetX - this.left) / this.cw) * k;
    const inside = row >= 0 && column >= 0 && row < data.n && column < data.m;
    if (!inside) this.onpoint(null);
    else if (row !== this.marked?.row || column !== this.marked?.column) this.onpoint(row, column);
  }

  #move(rows, columns) {
    const { n, m, best } = this.data;
    this.cursor ??= { row: 0, column: best[0] };
    const within = (x, size) => Math.min(size - 1, Math.max(0, x));
    this.cursor = { row: within(this.cursor.row + rows * this.k, n), column: within(this.cursor.column + columns * this.k, m) };
    this.onpoint(this.cursor.row, this.cursor.column);
  }
}
