// A long list in parts of a request each: a busy server is waited for, and a part that is refused is halved until the one at fault is alone.

import { wait } from "./api.js";

/** Entries of a request, and their characters: small enough for a steady bar and any server's body limit. */
const PART = 64;
const PART_CHARS = 400_000;
const LANES = 2;
const ATTEMPTS = 8;

function split(list, chars) {
  const parts = [];
  let [part, sum] = [[], 0];
  for (const entry of list) {
    const more = chars(entry);
    if (part.length && (part.length === PART || sum + more > PART_CHARS)) { parts.push(part); [part, sum] = [[], 0]; }
    part.push(entry);
    sum += more;
  }
  if (part.length) parts.push(part);
  return parts;
}

/**
 * Sends all of `list`. `send(part)` sends a part; `refused(entry, error)` is told of one that the server refuses alone, `done(part)` of what
 * is over, `waits(until)` of a pause, by the page's clock. Rejects with what ends it all.
 */
export async function sendAll(list, { chars, send, refused, done, waits, signal }) {
  let until = 0;
  const one = async (part) => {
    for (let attempt = 1; ; attempt++) {
      const pause = (until - performance.now()) / 1000;
      if (pause > 0) { waits(until); await wait(pause, signal); }
      signal.throwIfAborted();
      try {
        await send(part);
        break;
      } catch (error) {
        if (error.name === "AbortError") throw error;
        const busy = error.status === 429 || error.status === 503;
        if (busy && attempt < ATTEMPTS) {
          until = performance.now() + 1000 * Math.min(60, error.retryAfter ?? 2 ** attempt / 4);
          continue;
        }
        const isRefused = error.status === 400 || error.status === 413 || error.status === 422;
        if (isRefused && part.length > 1) {
          const half = part.length >> 1;
          await one(part.slice(0, half));
          await one(part.slice(half));
          return;
        }
        if (!isRefused) throw error;
        refused(part[0], error);
        break;
      }
    }
    done(part);
  };
  const parts = split(list, chars);
  const lane = async () => { for (let part = parts.shift(); part; part = parts.shift()) await one(part); };
  await Promise.all(Array.from({ length: LANES }, lane));
}
