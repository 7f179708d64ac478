// A file that was chosen or dropped becomes text: at once where its encoding is certain, else once a person has chosen one.

import { $, el, notice, oneLine } from "./dom.js";
import { decode, ENCODINGS, MAX_BYTES, preview, read } from "./decode.js";
import { int, many, size, t } from "./i18n.js";
import { changes } from "./state.js";

/** The file whose encoding is asked for: `{name, bytes, resolve}`. */
let asked = null;

export const isAsking = () => asked !== null;

export function initFile() {
  $("encoding-choice").append(...ENCODINGS.map((encoding) => el("option", { value: encoding })));
  $("encoding-choice").addEventListener("change", show);
  $("encoding-use").addEventListener("click", () => {
    const encoding = $("encoding-choice").value;
    answer({ text: decode(asked.bytes, encoding).text, encoding });
  });
  $("encoding-cancel").addEventListener("click", () => answer(null));
  changes.addEventListener("lang", show);
}

/**
 * The file's `{name, size, text, encoding?}`; what is asked stands before the element `beside`. `null` if it is given up, with the reason in `problem` if it
 * cannot be read.
 */
export async function openFile(file, problem, beside) {
  answer(null);
  beside.before($("encoding"));
  const name = oneLine(file.name);
  const refuse = (key) => { problem(t(key, { name, size: size(file.size), max: size(MAX_BYTES) })); return null; };
  if (file.size > MAX_BYTES) return refuse("file.large");
  let bytes;
  try { bytes = new Uint8Array(await file.arrayBuffer()); } catch { return refuse("file.unreadable"); }
  const { refused, guess, ...found } = read(bytes);
  if (refused) return refuse(refused);
  const decoded = guess ? await ask(name, bytes, guess) : found;
  return decoded && { name, size: bytes.length, ...decoded };
}

function ask(name, bytes, guess) {
  return new Promise((resolve) => {
    asked = { name, bytes, resolve };
    $("encoding").hidden = false;
    $("encoding-choice").value = guess;
    show();
    $("encoding-choice").focus();
  });
}

/** Ends the question, if there is one. */
export function answer(decoded) {
  $("encoding").hidden = true;
  const { resolve } = asked ?? {};
  asked = null;
  resolve?.(decoded);
}

/** What the text becomes. An encoding in which a part of it is unreadable is not taken. */
function show() {
  for (const option of $("encoding-choice").options) option.textContent = t(`encoding.${option.value}`);
  if (!asked) return;
  const { text, bad, line } = decode(asked.bytes, $("encoding-choice").value);
  $("encoding-text").textContent = t("encoding.ask", { name: asked.name });
  $("encoding-preview").textContent = preview(text);
  $("encoding-use").disabled = bad > 0;
  notice($("encoding-error"), bad ? many("encoding.bad", bad, { n: int(bad), line: int(line) }) : "");
}
