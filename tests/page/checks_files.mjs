// Files as people have them: in other encodings, small and large, no text at all. And what the page says about them.

import assert from "node:assert/strict";

const text = (page, selector) => page.textContent(selector);
const finished = (page, count) => page.waitForFunction((n) => new RegExp(`^${n} rows? in`).test(document.getElementById("batch-status").textContent), count);
const choose = (page, name, bytes) => page.setInputFiles("#batch-file", { name, mimeType: "text/csv", buffer: Buffer.from(bytes) });
const verdicts = (page) => page.$$eval("#table .vt-body .vt-row", (rows) => rows.map((row) => row.children[3].textContent));
const encoded = (text) => Buffer.from(text, "utf8");
const utf16 = (text, bigEndian) => (bigEndian ? Buffer.from(`\ufeff${text}`, "utf16le").swap16() : Buffer.from(`\ufeff${text}`, "utf16le"));
/** `你好,世界` as Chinese Excel saves it. */
const GBK = Buffer.from("c4e3bac32ccac0bde70d0a", "hex");

export async function files(guard) {
  const page = await guard.open("#batch");
  const { data: [right] } = await guard.post("/v1/score", { pairs: [["你好", "世界"]] });
  const score = async (count = 1) => {
    await page.click("#batch-go");
    await finished(page, count);
  };
  const expected = (right.dense * 100).toFixed(2);
  await page.fill("#data", "你好,世界");
  await score();
  assert.equal((await verdicts(page))[0], expected);

  // A small file is shown as pasted text is, and the note says where it comes from.
  await choose(page, "pairs.csv", encoded("hello,world\r\n"));
  await page.waitForFunction(() => document.getElementById("data").value === "hello,world\n");
  assert.equal(await text(page, "#data-note"), "1 row from the file pairs.csv (13 bytes). Read as CSV.");
  await page.locator("#data").press("Control+Home");
  await page.locator("#data").pressSequentially("!");
  assert.match(await text(page, "#data-note"), /Edited here\./);
  await page.click("#batch-clear");
  assert.equal(await text(page, "#data-note"), "");
  // A large one is not, and the note says why.
  await choose(page, "many.csv", encoded("one text,another\n".repeat(20_000)));
  await page.waitForFunction(() => /20,000 rows from the file many\.csv \(340\.0 kB\)/.test(document.getElementById("data-note").textContent));
  assert.match(await text(page, "#data-note"), /Not shown in the field: its 340,000 characters, more than 300,000, would make it slow\./);
  assert.equal(await page.inputValue("#data"), "");

  // Dropped files are taken as chosen ones are; of several, one.
  await page.evaluate(() => {
    const data = new DataTransfer();
    for (const [name, content] of [["first\u202e.csv", "a,b\none,two\n"], ["second.csv", "x,y\n"]]) data.items.add(new File([content], name));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await page.waitForFunction(() => document.getElementById("data").value === "a,b\none,two\n");
  assert.equal(await text(page, "#batch-error"), "Of 2 files, only first .csv is read: this page takes one at a time.");
  assert.equal(await text(page, "#data-note"), "1 row from the file first .csv (12 bytes). Read as CSV.");

  // GBK: asked about, with what it becomes before one's eyes; nothing is scored before, and nothing of an encoding that it is not.
  await choose(page, "pairs-gbk.csv", GBK);
  await page.waitForSelector("#encoding:not([hidden])");
  assert.match(await text(page, "#encoding-text"), /^pairs-gbk\.csv is not UTF-8/);
  assert.deepEqual([await page.inputValue("#encoding-choice"), await text(page, "#encoding-preview")], ["gb18030", "你好,世界"]);
  assert.equal(await page.inputValue("#data"), "", "what was there before is gone");
  await page.click("#batch-go");
  assert.equal(await text(page, "#batch-error"), "Choose the file's encoding first.");
  for (const [encoding, shown] of [["big5", /^[^�]*�|./u], ["windows-1253", /,/], ["utf-16le", /./u]]) {
    await page.selectOption("#encoding-choice", encoding);
    assert.match(await text(page, "#encoding-preview"), shown);
    const bad = (await text(page, "#encoding-preview")).includes("\ufffd");
    assert.equal(await page.isDisabled("#encoding-use"), bad, encoding);
    assert.equal(await page.isVisible("#encoding-error"), bad, encoding);
  }
  // An odd number of bytes is no UTF-16.
  await page.selectOption("#encoding-choice", "utf-16be");
  assert.equal(await page.isDisabled("#encoding-use"), true);
  assert.match(await text(page, "#encoding-error"), /not of this encoding, (the first of them )?in line 1\.$/);
  await page.selectOption("#lang", "zh");
  assert.match(await text(page, "#encoding-text"), /不是 UTF-8/);
  assert.match(await page.$eval("#encoding-choice option[value=gb18030]", (option) => option.textContent), /^简体中文/);
  await page.selectOption("#lang", "en");
  await page.selectOption("#encoding-choice", "gb18030");
  assert.equal(await page.isDisabled("#encoding-use"), false);
  await guard.picture("encoding");
  await page.click("#encoding-use");
  assert.equal(await page.isVisible("#encoding"), false);
  assert.equal(await text(page, "#data-note"), "1 row from the file pairs-gbk.csv (11 bytes). Decoded from Chinese, simplified (GB18030, GBK). Read as CSV.");
  await score();
  assert.equal((await verdicts(page))[0], expected);
  // Given up: nothing is left of it.
  await choose(page, "pairs-gbk.csv", GBK);
  await page.click("#encoding-cancel");
  await page.click("#batch-go");
  assert.match(await text(page, "#batch-error"), /nothing to score/);

  // UTF-16 by its mark, and UTF-8 with one; UTF-16 without is asked about.
  for (const bytes of [utf16("你好\t世界\r\n", false), utf16("你好\t世界\r\n", true), encoded("\ufeff你好,世界")]) {
    await choose(page, "table.txt", bytes);
    await page.waitForFunction(() => /^1 row from the file table\.txt/.test(document.getElementById("data-note").textContent));
    await score();
    assert.equal((await verdicts(page))[0], expected);
    await page.click("#batch-clear");
  }
  await choose(page, "table.txt", utf16("hello\tworld\r\n", false).subarray(2));
  await page.waitForSelector("#encoding:not([hidden])");
  assert.equal(await page.inputValue("#encoding-choice"), "utf-16le");
  await page.click("#encoding-cancel");

  // No texts.
  for (const [name, bytes, said] of [
    ["book.xlsx", [0x50, 0x4b, 3, 4, 20], "not a text file but an archive or an office document"],
    ["picture.csv", [0x89, 0x50, 0, 0, 0, 13], "picture.csv is not a text file"],
    ["wide.csv", [0xff, 0xfe, 0, 0, 0x61, 0, 0, 0], "wide.csv is UTF-32"],
  ]) {
    await choose(page, name, bytes);
    await page.waitForFunction((words) => document.getElementById("batch-error").textContent.includes(words), said);
    assert.equal(await text(page, "#data-note"), "");
  }

  // Characters that were lost before are scored with a word about it: pasted, in a file, in a comparison and in its link.
  await page.fill("#data", "\ufffd\ufffd,\ufffd\nfine,too");
  assert.match(await text(page, "#batch-lost"), /^1 row contains U\+FFFD/);
  await score(2);
  assert.match(await text(page, "#batch-status"), /2 rows in .*1 row contains U\+FFFD/);
  assert.equal(await page.isVisible("#batch-lost"), true);
  await page.fill("#data", "fine,too");
  assert.equal(await page.isVisible("#batch-lost"), false);
  const linked = await guard.open("#a=%C4%E3&b=world");
  await linked.waitForSelector("#why-body:not([hidden])");
  assert.match(await text(linked, "#lost"), /^Text A contains U\+FFFD/);
  // Half a character is no text: the row says so, the others are scored.
  await page.fill("#data", '["\\ud83d","x"]\n["y","z"]');
  await score(2);
  assert.match(await text(page, "#table"), /half of a character/);
  assert.match(await text(page, "#batch-status"), /1 row has an error\.$/);
}

/** Texts that their encodings are guessed from; each is made in the browser, by turning its decoder round. */
const TEXTS = {
  gb18030: ["你好,世界\n", "苹果公司发布新手机,今天天气很好\n我喜欢阅读书籍,人工智能正在改变世界\n", "北京,上海\n"],
  big5: ["你好,世界\n", "蘋果公司發布新手機,今天天氣很好\n我喜歡閱讀書籍\n", "台北,高雄\n"],
  shift_jis: ["こんにちは,世界\n", "アップルが新しいスマートフォンを発表した,今日は天気がいい\n"],
  "euc-jp": ["こんにちは,世界\n", "アップルが新しいスマートフォンを発表した,今日は天気がいい\n"],
  "euc-kr": ["안녕하세요,세계\n", "애플이 새로운 아이폰을 발표했다,오늘은 날씨가 좋다\n"],
  "windows-1252": ["le café est fermé,la crème brûlée\n", "für Größe und Übung,schön\n", "el niño está aquí\n", "“quoted” text – really\n", "não põe ações\n"],
  "windows-1250": ["zażółć gęślą jaźń,łódź\n", "příliš žluťoučký kůň úpěl\n", "árvíztűrő tükörfúrógép\n"],
  "windows-1251": ["привет,мир\n", "Москва — столица России,Погода сегодня хорошая\n"],
  "koi8-r": ["привет,мир\n", "Москва столица России,Погода сегодня хорошая\n"],
  ibm866: ["привет,мир\n", "Москва столица России,Погода сегодня хорошая\n"],
  "windows-1253": ["γεια σου,κόσμε\n", "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας\n"],
  "windows-1254": ["İstanbul'da güneşli bir gün,çok güzel ağaç\n"],
  "windows-1255": ["שלום,עולם\n", "ירושלים היא בירת ישראל\n"],
  "windows-1256": ["مرحبا,العالم\n", "القاهرة عاصمة مصر\n"],
  "windows-1257": ["žąsis ėjo į turgų,šiandien gražus oras\n", "Rīga ir Latvijas galvaspilsēta,šķērsiela\n"],
  "windows-874": ["สวัสดี,ชาวโลก\n", "กรุงเทพเป็นเมืองหลวงของประเทศไทย\n"],
};

export async function guesses(guard) {
  const page = await guard.open("#batch");
  const wrong = await page.evaluate(async (texts) => {
    const { decode, ENCODINGS, guess } = await import("/decode.js");
    const bytesOf = (encoding) => {
      const [decoder, table] = [new TextDecoder(encoding, { fatal: true }), new Map()];
      const add = (...bytes) => {
        try {
          const text = decoder.decode(new Uint8Array(bytes));
          if ([...text].length === 1 && !table.has(text)) table.set(text, bytes);
        } catch { /* no character */ }
      };
      for (let lead = 0; lead < 256; lead++) add(lead);
      for (let lead = 0x81; lead < 255; lead++) for (let trail = 0x40; trail < 255; trail++) add(lead, trail);
      return (text) => new Uint8Array([...text].flatMap((character) => table.get(character)));
    };
    const found = [];
    for (const [encoding, list] of Object.entries(texts)) {
      const encode = bytesOf(encoding);
      for (const text of list) for (const languages of [["en-US"], ["zh-CN", "en"]]) {
        const bytes = encode(text);
        const [guessed, { text: back, bad }] = [guess(bytes, languages), decode(bytes, encoding)];
        if (guessed !== encoding || back !== text || bad) found.push(`${text} in ${encoding}: ${guessed}, ${back}, ${bad}`);
      }
    }
    // Each is known to the browser and can be told to have failed: no byte is passed over in silence.
    for (const encoding of ENCODINGS) {
      const all = decode(Uint8Array.from({ length: 255 }, (_, i) => 255 - i), encoding);
      if (all.bad === 0 && /[\ufffd\u0080-\u009f]/.test(all.text)) found.push(`${encoding}: ${all.bad}`);
    }
    return found;
  }, TEXTS);
  assert.deepEqual(wrong, []);
}
