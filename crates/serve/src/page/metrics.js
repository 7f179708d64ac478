// Prometheus text: enough of it to read a histogram.

/** Buckets of the histogram `name`, summed over its labels: `[[upper bound, count up to it]]`, ascending; `null` if there is none. */
export function buckets(text, name) {
  const sums = new Map();
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${name}_bucket{`)) continue;
    const bound = /[{,]\s*le="([^"]+)"/.exec(line)?.[1];
    const count = Number(line.slice(line.lastIndexOf("}") + 1).trim().split(/\s+/)[0]);
    if (bound === undefined || !Number.isFinite(count)) continue;
    const le = bound === "+Inf" ? Infinity : Number(bound);
    sums.set(le, (sums.get(le) ?? 0) + count);
  }
  return sums.size ? [...sums].sort(([x], [y]) => x - y) : null;
}

/** What happened between two readings of the same histogram. */
export function since(older, newer) {
  const before = new Map(older);
  return newer.map(([le, count]) => [le, Math.max(0, count - (before.get(le) ?? 0))]);
}

/** The `q`-quantile by straight lines inside a bucket, as Prometheus' `histogram_quantile`; `null` if nothing was counted. */
export function quantile(histogram, q) {
  const total = histogram.at(-1)?.[1] ?? 0;
  if (total === 0) return null;
  const rank = q * total;
  let [lower, below] = [0, 0];
  for (const [le, count] of histogram) {
    if (count >= rank) return le === Infinity ? lower : lower + (le - lower) * ((rank - below) / Math.max(count - below, 1e-12));
    [lower, below] = [le, count];
  }
  return lower;
}
