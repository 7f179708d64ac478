// Lines over the last two minutes on a canvas.

import { colour } from "./dom.js";
import { ms } from "./scores.js";

export const SPAN_MS = 120_000;
const LEFT = 62;
const BOTTOM = 22;

/** A round number at or above `x`: 1, 2 or 5 times a power of ten. */
function ceiling(x) {
  const power = 10 ** Math.floor(Math.log10(Math.max(x, 1e-3)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= x * 0.999);
}

/** `series`: `{points: [{at, ms}], ink: CSS variable, dots?}`; `now` is the right edge. */
export function draw(canvas, series, now) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (width === 0) return;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  const recent = series.map((one) => ({ ...one, points: one.points.filter(({ at }) => at >= now - SPAN_MS) }));
  const top = ceiling(Math.max(0.1, ...recent.flatMap((one) => one.points.map((point) => point.ms))));
  const x = (at) => LEFT + (width - LEFT - 6) * (1 - (now - at) / SPAN_MS);
  const y = (value) => 8 + (height - BOTTOM - 8) * (1 - Math.min(value, top) / top);
  c.font = "11px ui-monospace, monospace";
  c.fillStyle = colour("--muted");
  c.strokeStyle = colour("--line");
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const part of [0, 0.5, 1]) {
    c.beginPath();
    c.moveTo(LEFT, Math.round(y(top * part)) + 0.5);
    c.lineTo(width - 6, Math.round(y(top * part)) + 0.5);
    c.stroke();
    c.fillText(part ? ms(top * part) : "0", LEFT - 8, y(top * part));
  }
  c.textAlign = "center";
  for (const seconds of [120, 90, 60, 30, 0]) c.fillText(seconds ? `−${seconds} s` : "0", Math.min(width - 14, Math.max(LEFT + 14, x(now - seconds * 1000))), height - 8);
  for (const { points, ink, dots } of recent) {
    c.strokeStyle = c.fillStyle = colour(ink);
    c.lineWidth = 2;
    if (dots) {
      for (const point of points) { c.beginPath(); c.arc(x(point.at), y(point.ms), 3, 0, 7); c.fill(); }
      continue;
    }
    if (points.length === 1) c.fillRect(x(points[0].at) - 3, y(points[0].ms) - 1, 6, 2);
    c.beginPath();
    points.forEach((point, i) => {
      // A gap in the readings is a gap in the line.
      if (i === 0 || point.at - points[i - 1].at > 8000) c.moveTo(x(point.at), y(point.ms));
      else c.lineTo(x(point.at), y(point.ms));
    });
    c.stroke();
  }
}
