// Files to text. UTF-8 is read strictly and UTF-16 by its byte order mark; everything else by an encoding that a person confirms with
// the text before their eyes. No character that could not be read becomes part of a text.

/** The encodings to choose from; each has a name in the page's words, as `encoding.…`. */
export const ENCODINGS = [
  "gb18030", "big5", "shift_jis", "euc-jp", "iso-2022-jp", "euc-kr",
  "windows-1252", "windows-1250", "windows-1257", "windows-1254", "windows-1258", "iso-8859-2", "macintosh",
  "windows-1251", "koi8-r", "koi8-u", "ibm866", "windows-1253", "windows-1255", "windows-1256", "windows-874",
  "utf-16le", "utf-16be",
];

/** Bytes that a guess looks at. */
const SAMPLE = 200_000;
/** Larger files are not for a page. */
export const MAX_BYTES = 64 * 2 ** 20;

const starts = (bytes, ...signature) => signature.every((byte, i) => bytes[i] === byte);

/** The text of `bytes`, or `null` if they are not all characters of `encoding`. */
function strict(bytes, encoding) {
  try { return new TextDecoder(encoding, { fatal: true }).decode(bytes); } catch { return null; }
}

/**
 * What a file holds: `{text}`; or `{refused}`, a key of the page's words, if it is no text; or `{guess}`, if a person must choose the encoding.
 */
export function read(bytes) {
  if (starts(bytes, 0x50, 0x4b, 3, 4) || starts(bytes, 0xd0, 0xcf, 0x11, 0xe0)) return { refused: "file.office" };
  if (starts(bytes, 0x25, 0x50, 0x44, 0x46) || starts(bytes, 0x1f, 0x8b)) return { refused: "file.binary" };
  if (starts(bytes, 0xff, 0xfe, 0, 0) || starts(bytes, 0, 0, 0xfe, 0xff)) return { refused: "file.utf32" };
  for (const [encoding, ...mark] of [["utf-16le", 0xff, 0xfe], ["utf-16be", 0xfe, 0xff]]) {
    if (!starts(bytes, ...mark)) continue;
    const text = strict(bytes, encoding);
    return text === null ? { guess: encoding } : { text, encoding };
  }
  // ASCII in UTF-16 is valid UTF-8 too, with a NUL beside each letter; and ISO-2022-JP is ASCII with escape sequences.
  const wide = nuls(bytes);
  if (wide === "binary") return { refused: "file.binary" };
  if (wide) return { guess: wide };
  const text = strict(bytes, "utf-8");
  if (text === null) return { guess: guess(bytes) };
  return /\x1b\$[@B]|\x1b\([JI]/.test(text) ? { guess: "iso-2022-jp" } : { text };
}

/** UTF-16's byte order if every other byte is often NUL, `binary` if NULs are anywhere, `null` if there is none. */
function nuls(bytes) {
  const counts = [0, 0];
  const length = Math.min(bytes.length, SAMPLE);
  for (let i = 0; i < length; i++) if (bytes[i] === 0) counts[i % 2]++;
  if (counts[0] + counts[1] === 0) return null;
  const [first, second] = counts.map((n) => n / (length / 2));
  if (second > 0.1 && first < second / 20) return "utf-16le";
  if (first > 0.1 && second < first / 20) return "utf-16be";
  return "binary";
}

/** Characters of the one-byte encodings that stand for no character there. */
const CONTROL = /[\u0080-\u009f]/u;

/**
 * What `bytes` become in `encoding`: `{text, bad, line}`. `bad` counts what could not be read, U+FFFD in `text`; `line` has the first of it.
 */
export function decode(bytes, encoding) {
  const whole = strict(bytes, encoding);
  if (whole !== null && !CONTROL.test(whole)) return { text: whole, bad: 0, line: 0 };
  const text = (whole ?? new TextDecoder(encoding).decode(bytes)).replace(/[\u0080-\u009f]/gu, "\ufffd");
  const first = text.indexOf("\ufffd");
  return { text, bad: text.split("\ufffd").length - 1, line: text.slice(0, first).split(/\r\n?|\n/).length };
}

/** The first lines that are not plain ASCII, which are the ones that encodings differ in. */
export function preview(text, lines = 8, chars = 120) {
  const found = [];
  for (const match of text.matchAll(/[^\r\n]*[^\x00-\x7f][^\r\n]*/g)) {
    const at = Math.max(0, match[0].search(/[^\x00-\x7f]/) - chars / 2);
    found.push(`${at > 0 ? "…" : ""}${match[0].slice(at, at + chars)}${match[0].length > at + chars ? "…" : ""}`);
    if (found.length === lines) break;
  }
  return found.join("\n") || text.slice(0, chars);
}

/** Double-byte encodings: what a character is worth by its lead and trail byte, 1 for what is usual in a text and below 0 for what is rare. */
const HIGH = (lead, trail, from, to) => lead >= from && lead <= to && trail >= 0xa1;
const PAIRS = {
  gb18030: (l, t) => (HIGH(l, t, 0xb0, 0xd7) ? 0.8 : HIGH(l, t, 0xa1, 0xa9) ? 0.4 : HIGH(l, t, 0xd8, 0xf7) ? 0.1 : -0.5),
  big5: (l) => (l >= 0xa4 && l <= 0xc6 ? 0.8 : l >= 0xa1 && l <= 0xa3 ? 0.4 : l >= 0xc9 && l <= 0xf9 ? 0 : -0.5),
  "euc-kr": (l, t) => (HIGH(l, t, 0xb0, 0xc8) ? 0.8 : HIGH(l, t, 0xa1, 0xac) ? 0.3 : -0.3),
  "euc-jp": (l, t) => (l === 0xa4 || l === 0xa5 ? 1 : HIGH(l, t, 0xa1, 0xa3) ? 0.4 : HIGH(l, t, 0xb0, 0xcf) ? 0.5 : -0.3),
  shift_jis: (l, t) => ((l === 0x82 && t >= 0x9f) || (l === 0x83 && t <= 0x96) ? 1 : l === 0x81 ? 0.4 : l >= 0x88 && l <= 0x97 ? 0.5 : -0.3),
};
/** Frequent characters, which tell languages that share their bytes from one another. */
const OFTEN = {
  gb18030: "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实世界手机新今气很",
  big5: "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心本前開但因只從想實世界手機新今氣很",
  "euc-kr": "이다는의에가을를은고하지한로서도어리기사자나시아인정대그해으스일있수장보부전요니세안녕우습와과만된",
  "euc-jp": "", shift_jis: "",
};
/** One-byte encodings: their languages' frequent letters, and all of their letters. */
const LATIN = /\p{Script=Latin}/u;
const CYRILLIC = /\p{Script=Cyrillic}/u;
const RUSSIAN = "оеаинтсрвлкмд";
const LETTERS = {
  "windows-1252": ["éèàùâêîôûçëïüñáíóúäößãõåæøœ¿¡", LATIN], "windows-1250": ["ąćęłńóśźżčďěňřšťůžáéíýúőűăâîşţöü", LATIN],
  "windows-1257": ["āčēģīķļņšūžąęėįųõäöü", LATIN], "windows-1254": ["ğışİçöü", LATIN], "windows-1258": ["ăâđêôơưàáéíóúýè", LATIN],
  "windows-1251": [RUSSIAN, CYRILLIC], "koi8-r": [RUSSIAN, CYRILLIC], ibm866: [RUSSIAN, CYRILLIC],
  "windows-1253": ["αοιετσνηρπκμςλυάέίόήύώ", /\p{Script=Greek}/u], "windows-1255": ["יולהאמרבתשנםעדקחפ", /\p{Script=Hebrew}/u],
  "windows-1256": ["اليمنوتربعدسفهكةقأح", /\p{Script=Arabic}/u], "windows-874": ["านรอกเงมยลวด่้ทสต็ีิัะไใคปบห", /\p{Script=Thai}/u],
};

function worthOfPairs(bytes, encoding) {
  const text = strict(bytes, encoding);
  if (text === null) return -1;
  let [sum, count] = [0, 0];
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] < 0x80) continue;
    count++;
    // Katakana of half width, of one byte in Shift_JIS, are rare.
    if (encoding === "shift_jis" && bytes[i] >= 0xa1 && bytes[i] <= 0xdf) sum -= 0.3;
    else sum += PAIRS[encoding](bytes[i], bytes[++i]);
  }
  const often = new Set(OFTEN[encoding]);
  for (const character of text) if (often.has(character)) sum += 0.2;
  return sum / count;
}

function worthOfLetters(bytes, encoding) {
  const text = strict(bytes, encoding);
  if (text === null) return -1;
  const [letters, script] = LETTERS[encoding];
  const often = new Set(letters);
  let [sum, count, before] = [0, 0, ""];
  for (const character of text) {
    if (character > "\x7f") {
      count++;
      if (CONTROL.test(character)) sum -= 2;
      else if (often.has(character)) sum += 1;
      else if (often.has(character.toLowerCase())) sum += /\p{Ll}/u.test(before) ? -0.5 : 0.8;
      else if (script.test(character)) sum += /\p{Lu}/u.test(character) && /\p{Ll}/u.test(before) ? -0.5 : 0.4;
      else sum += /[‘’“”„–—…«»€°©§ ]/u.test(character) ? 0.3 : /[\p{L}\p{M}]/u.test(before) ? -0.8 : -0.3;
      // Letters with marks stand alone among plain ones; those of other scripts do not stand beside plain ones.
      if (script === LATIN ? before > "\x7f" && script.test(before) : /[a-z]/i.test(before) && script.test(character)) sum -= 0.7;
    }
    // Portuguese has õ before e alone; elsewhere it stands for Hungarian's ő.
    if (encoding === "windows-1252" && before === "õ" && character !== "e") sum -= 0.6;
    before = character;
  }
  return sum / count;
}

/** Languages of a browser whose users often meet an encoding: a small advantage for it. */
const HOMES = {
  gb18030: /^zh(?!-(tw|hk|mo|hant))/i, big5: /^zh-(tw|hk|mo|hant)/i, shift_jis: /^ja/i, "euc-kr": /^ko/i, "windows-1251": /^(ru|bg|sr|uk|be)/i,
  "windows-1250": /^(pl|cs|sk|hu|sl|hr|ro)/i, "windows-1257": /^(et|lv|lt)/i, "windows-1254": /^tr/i, "windows-1258": /^vi/i,
  "windows-1253": /^el/i, "windows-1255": /^(he|iw)/i, "windows-1256": /^(ar|fa|ur)/i, "windows-874": /^th/i,
};

/** The encoding that makes the likeliest text of `bytes`, which are not UTF-8. A person sees what becomes of them, and decides. */
export function guess(bytes, languages = globalThis.navigator?.languages ?? []) {
  let sample = bytes.subarray(0, SAMPLE);
  // Up to a line's end: a character cut in two would rule its encoding out.
  if (bytes.length > SAMPLE) sample = sample.subarray(0, Math.max(sample.lastIndexOf(10), sample.lastIndexOf(13)) + 1);
  let [best, most] = ["windows-1252", -Infinity];
  for (const encoding of ENCODINGS) {
    let worth;
    if (encoding in PAIRS) worth = worthOfPairs(sample, encoding);
    else if (encoding in LETTERS) worth = worthOfLetters(sample, encoding);
    else continue;
    if (languages.some((language) => HOMES[encoding]?.test(language))) worth += 0.05;
    if (worth > most) [best, most] = [encoding, worth];
  }
  return best;
}
