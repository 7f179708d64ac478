// Small helpers. Text reaches the page through textContent and attributes only, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `text`, `on…` handlers, attributes) and children. */
export function el(name, props = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A user's text, isolated so that its direction marks cannot reorder what stands around it. */
export const bdi = (text, props = {}) => el("bdi", { dir: "auto", ...props, text });

/** Shows `text` in a notice, or hides the notice. */
export function notice(node, text) {
  node.textContent = text || "";
  node.hidden = !text;
}

// Controls and format characters (bidi marks, joiners): without width, acting on their neighbours.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
const code = (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A piece as people read it: without the mark of a word's start, hidden characters by their code. */
export function readable(piece) {
  const body = piece.startsWith("▁") && piece.length > 1 ? piece.slice(1) : piece;
  return body.replace(HIDDEN, code);
}

/** One line for a table cell: at most `limit` characters, hidden characters as a space. */
export function oneLine(text, limit = 240) {
  const head = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return head.replace(HIDDEN, " ");
}

/** The character that stands where bytes could not be read: what was there is lost. */
export const isLost = (text) => text.includes("\ufffd");

/** Half of a character that takes two UTF-16 units, without its other half: no text that can be sent. */
export const isBroken = (text) => /\p{Surrogate}/u.test(text);

/** The texts that models read are far shorter (8,192 tokens): what is longer is cut, and said so. */
export const MAX_CHARS = 200_000;

/** The first `MAX_CHARS` UTF-16 units, never half a surrogate pair. */
export function cut(text) {
  if (text.length <= MAX_CHARS) return text;
  const last = text.charCodeAt(MAX_CHARS - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? MAX_CHARS - 1 : MAX_CHARS);
}

export function download(name, type, parts) {
  const url = URL.createObjectURL(new Blob([...parts], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The computed value of a colour variable, which canvas cannot read by itself. */
export function colour(name) {
  const probe = el("i", { class: "sr" });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
