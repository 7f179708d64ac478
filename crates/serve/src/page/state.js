// What the views share: weights, thresholds, language and theme. A view listens to `changes`.

export const changes = new EventTarget();
const emit = (name) => changes.dispatchEvent(new Event(name));

/** Storage can be forbidden (private windows, policies): then nothing is remembered. */
export const remembered = {
  get(key, store = "localStorage") {
    try { return window[store].getItem(`trivec.${key}`); } catch { return null; }
  },
  set(key, value, store = "localStorage") {
    try {
      if (value === null) window[store].removeItem(`trivec.${key}`);
      else window[store].setItem(`trivec.${key}`, value);
    } catch { /* not remembered */ }
  },
};

export const DEFAULT_WEIGHTS = [1, 1, 1];
export const DEFAULT_THRESHOLDS = [85, 60, 30];

export const state = {
  /** Dense, sparse, ColBERT. */
  weights: [...DEFAULT_WEIGHTS],
  /** Near-identical, related, unrelated; per cent. */
  thresholds: [...DEFAULT_THRESHOLDS],
};

export const validWeights = (w) =>
  Array.isArray(w) && w.length === 3 && w.every((x) => Number.isFinite(x) && x >= 0 && x <= 1e6);

/** `100 >= near-identical >= related >= unrelated >= -100`. */
export const validThresholds = (t) =>
  Array.isArray(t) && t.length === 3 && t.every(Number.isFinite) &&
  [100, ...t, -100].every((x, i, all) => i === 0 || all[i - 1] >= x);

export function setWeights(weights) {
  state.weights = weights;
  emit("weights");
}

export function setThresholds(thresholds) {
  state.thresholds = thresholds;
  remembered.set("thresholds", JSON.stringify(thresholds));
  emit("thresholds");
}

export function setTheme(theme) {
  remembered.set("theme", theme);
  applyTheme(theme);
}

export function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  emit("theme");
}

export function restore() {
  try {
    const thresholds = JSON.parse(remembered.get("thresholds"));
    if (validThresholds(thresholds)) state.thresholds = thresholds;
  } catch { /* as they are */ }
  applyTheme(remembered.get("theme"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => emit("theme"));
}
