// A table that keeps only the rows in sight in the document, so that 100,000 rows scroll as ten do.

import { el } from "./dom.js";

const ROW = 36;
const MARGIN = 8;

export class VirtualTable {
  /**
   * `columns`: `{key, label(), value(row) for sorting, cell(row) → text or node, right?, tone?(row)}`. `label` is a function because the
   * language can change; a column without `value` cannot be sorted by.
   */
  constructor(box, columns, label) {
    Object.assign(this, { box, columns, label, rows: [], order: [], key: null, down: false });
    box.addEventListener("scroll", () => this.#later());
    new ResizeObserver(() => this.#later()).observe(box);
    this.build();
  }

  build() {
    this.box.className = "vt";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "table");
    this.box.setAttribute("aria-label", this.label());
    this.heads = this.columns.map((column) => {
      const head = el("div", { role: "columnheader", class: column.right ? "r" : null });
      head.append(column.value ? el("button", { type: "button", "data-key": column.key, onclick: () => this.sort(column.key) }) : el("span", { class: "sr" }));
      return head;
    });
    this.body = el("div", { class: "vt-body", role: "rowgroup" });
    this.box.replaceChildren(el("div", { class: "vt-inner", role: "presentation" },
      el("div", { role: "rowgroup", class: "vt-top" }, el("div", { class: "vt-row vt-head", role: "row", "aria-rowindex": "1" }, ...this.heads)), this.body));
    this.#name();
    this.render();
  }

  #name() {
    this.columns.forEach((column, i) => {
      const on = column.key === this.key;
      this.heads[i].firstElementChild.textContent = `${column.label()}${on ? (this.down ? " ↓" : " ↑") : ""}`;
      if (on) this.heads[i].setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else this.heads[i].removeAttribute("aria-sort");
    });
  }

  setRows(rows) {
    this.rows = rows;
    [this.key, this.down] = [null, false];
    this.box.scrollTop = 0;
    this.resort();
    this.#name();
  }

  /** By a column; again turns it round. Numbers begin with the largest. */
  sort(key) {
    const column = this.columns.find((one) => one.key === key);
    if (this.key === key) this.down = !this.down;
    else [this.key, this.down] = [key, Boolean(column.right) && key !== "index"];
    this.#name();
    this.resort();
  }

  /** Sorts anew: rows without a value stay last, equals keep their order. */
  resort() {
    this.order = this.rows.map((_, i) => i);
    const column = this.columns.find((one) => one.key === this.key);
    if (column) {
      const values = this.rows.map((row) => column.value(row) ?? null);
      const turn = this.down ? -1 : 1;
      const compare = typeof values.find((value) => value !== null) === "string" ? new Intl.Collator().compare : (x, y) => x - y;
      this.order.sort((i, j) => {
        const [x, y] = [values[i], values[j]];
        if (x === null || y === null) return (x === null) - (y === null) || i - j;
        return turn * compare(x, y) || i - j;
      });
    }
    this.render();
  }

  #later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.render(); });
  }

  render() {
    this.box.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.body.style.height = `${this.rows.length * ROW}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - MARGIN);
    const last = Math.min(this.order.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + MARGIN);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("[role=row]")?.dataset.row : null;
    const visible = [];
    for (let at = first; at < last; at++) visible.push(this.#row(at));
    this.body.replaceChildren(...visible);
    if (focused) this.body.querySelector(`[data-row="${focused}"] button`)?.focus({ preventScroll: true });
  }

  #row(at) {
    const row = this.rows[this.order[at]];
    const node = el("div", { class: "vt-row", role: "row", "aria-rowindex": String(at + 2), "data-row": String(this.order[at]) },
      ...this.columns.map((column) => {
        const content = column.cell(row);
        const cell = el("div", { role: "cell", class: [column.right ? "r num" : "", column.tone?.(row) ?? ""].join(" ").trim() });
        cell.append(content);
        if (column.title) cell.title = column.title(row);
        return cell;
      }));
    node.style.top = `${at * ROW}px`;
    return node;
  }
}
