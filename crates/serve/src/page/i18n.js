// The page's words in two languages. `{name}` in a text is filled in by `t`.

import { changes, remembered } from "./state.js";
import { en } from "./words.en.js";
import { zh } from "./words.zh.js";

const WORDS = { en, zh };
let language = "en";

export const lang = () => language;

export function t(key, values = {}) {
  const text = WORDS[language][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The same for `n` of something: `key.one` has the words for a single one, where a language has words of its own for it. */
export const many = (key, n, values = {}) => t(n === 1 && `${key}.one` in WORDS[language] ? `${key}.one` : key, { n: int(n), ...values });

/** Whether the language in use has words of its own. */
export const has = (key) => key in WORDS[language];

export const int = (n) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-US").format(n);

/** Bytes, as people read them. */
export function size(bytes) {
  if (bytes < 1000) return many("bytes", bytes);
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** The remembered language, or the browser's first one that there is. */
export function chosenLanguage() {
  const saved = remembered.get("lang");
  if (saved in WORDS) return saved;
  for (const tag of navigator.languages ?? [navigator.language]) {
    const short = tag.toLowerCase().split("-")[0];
    if (short in WORDS) return short;
  }
  return "en";
}

export function setLanguage(name) {
  language = name in WORDS ? name : "en";
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  translate(document);
  changes.dispatchEvent(new Event("lang"));
}

/** Puts the words into every element that names one. */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-i18n]")) node.textContent = t(node.dataset.i18n);
  for (const node of root.querySelectorAll("[data-i18n-label]")) node.setAttribute("aria-label", t(node.dataset.i18nLabel));
}

/**
 * The keys that one language has and another lacks: none, which the page tests check. Words for a single one, and for errors that the
 * service puts into English itself, are where they are needed.
 */
export function missing() {
  const keys = Object.values(WORDS).map((words) => Object.keys(words).filter((key) => !/\.one$|^error\.code\./.test(key)));
  return keys.flatMap((some) => keys.flatMap((others) => some.filter((key) => !others.includes(key))));
}
