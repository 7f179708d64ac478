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

export const int = (n) => new Intl.NumberFormat(language === "zh" ? "zh-CN" : "en-US").format(n);

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

/** The keys that one language has and another lacks: none, which the page tests check. */
export function missing() {
  const keys = Object.values(WORDS).map((words) => Object.keys(words));
  return keys.flatMap((some) => keys.flatMap((others) => some.filter((key) => !others.includes(key))));
}
