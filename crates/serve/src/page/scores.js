// The arithmetic of the page: equal to the server's, which works in f64 over f32 values and rounds the result to f32.

export const NAMES = ["colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense"];

function mean(parts) {
  if (parts.some(([value]) => value === null || value === undefined)) return null;
  const total = parts.reduce((sum, [, weight]) => sum + weight, 0);
  return total > 0 ? Math.fround(parts.reduce((sum, [value, weight]) => sum + value * weight, 0) / total) : null;
}

/** The five scores of `row` under `weights` (dense, sparse, ColBERT); `null` where a part is missing or the weights add up to 0. */
export function mix(row, weights) {
  const [wd, ws, wc] = weights.map(Math.fround);
  const { colbert = null, sparse = null, dense = null } = row;
  return {
    colbert, sparse, dense,
    "sparse+dense": mean([[sparse, ws], [dense, wd]]),
    "colbert+sparse+dense": mean([[colbert, wc], [sparse, ws], [dense, wd]]),
  };
}

/** Strict bounds on the unrounded value. `thresholds` are per cent. */
export function verdict(dense, thresholds) {
  const [near, related, unrelated] = thresholds.map((t) => Math.fround(t / 100));
  const cosine = Math.fround(dense);
  if (cosine > near) return "near-identical";
  if (cosine > related) return "related";
  return cosine < unrelated ? "unrelated" : "unclear";
}

/** A cosine in per cent, with as many digits (two or more) as it takes not to contradict its verdict: 84.999 is not 85.00. */
export function percent(dense, thresholds) {
  const word = verdict(dense, thresholds);
  for (let digits = 2; digits <= 7; digits++) {
    const text = (dense * 100).toFixed(digits);
    if (verdict(Number(text) / 100, thresholds) === word) return text.replace(/^-(?=0\.?0*$)/, "");
  }
  return String(dense * 100);
}

export const four = (x) => (x === null || x === undefined ? "–" : x.toFixed(4));
export const ms = (x) => (Number.isFinite(x) ? `${x < 10 ? x.toFixed(2) : x < 100 ? x.toFixed(1) : Math.round(x)} ms` : "–");
