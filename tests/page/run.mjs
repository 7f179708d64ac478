// The page of `trivec serve`, tested in a real Chromium.
//
//   TRIVEC_BIN=target/release/trivec node run.mjs     against the binary, with the starter model
//   node run.mjs --mock                               against mock.mjs, while working on the page alone
//   node run.mjs batch why                            the named checks only
//
// CHROMIUM names the browser (else chromium, chromium-browser, google-chrome on the path). Without one the run fails, unless
// TRIVEC_PAGE_TESTS=skip says that it may not run. Screenshots go to OUT (else ./out).

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import path from "node:path";

if (process.env.TRIVEC_PAGE_TESTS === "skip") {
  console.log("SKIPPED: the page tests, because TRIVEC_PAGE_TESTS=skip");
  process.exit(0);
}

const args = process.argv.slice(2);
const isMock = args.includes("--mock");
const only = args.filter((arg) => !arg.startsWith("--"));
const out = path.resolve(process.env.OUT ?? fileURLToPath(new URL("out", import.meta.url)));
mkdirSync(out, { recursive: true });

function stop(message) {
  console.error(message);
  process.exit(1);
}

function browserPath() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  for (const name of names) {
    const found = spawnSync("sh", ["-c", 'command -v "$1"', "sh", name], { encoding: "utf8" }).stdout.trim();
    if (found) return found;
  }
  return stop("page tests: no Chromium found. Install Debian's `chromium`, or name one by CHROMIUM; TRIVEC_PAGE_TESTS=skip leaves these tests out.");
}

/** What the index has that the binary serves. */
const DOCUMENTS = [
  { id: "phone", text: "Apple has launched a new iPhone. It is sold from Friday on.", lang: "en", year: 2024 },
  { id: "soup", title: "Dinner", text: "A soup of carrots and leek is cooked for half an hour.", lang: "en", year: 2020 },
  { id: "train", text: "The night train to Vienna leaves at nine in the evening.", lang: "en", year: 2021 },
  { id: "buch", text: "Ich lese abends gern ein gutes Buch.", lang: "de", year: 2022 },
  { id: "himmel", text: "Der Himmel ist heute blau.", lang: "de", year: 2019 },
  { id: "livre", text: "Le prix des livres augmente chaque année.", lang: "fr", year: 2018 },
].map((document) => `${JSON.stringify(document)}\n`).join("");

/** The binary with no models and no settings of this machine, on a port that it chose, once it says that it listens. */
function startBinary(bin) {
  const home = mkdtempSync(path.join(tmpdir(), "trivec-page-"));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TRIVEC_")));
  const own = { ...env, TRIVEC_HOME: home };
  const index = path.join(home, "notes");
  const documents = path.join(home, "documents.jsonl");
  writeFileSync(documents, DOCUMENTS);
  const indexed = spawnSync(bin, ["-q", "index", index, "--input", documents], { env: own, encoding: "utf8" });
  if (indexed.status !== 0) stop(`page tests: trivec index: ${indexed.stderr}`);
  const child = spawn(bin, ["serve", "--port", "0", "--index", index], { stdio: ["ignore", "ignore", "pipe"], env: own });
  process.on("exit", () => { child.kill("SIGKILL"); rmSync(home, { recursive: true, force: true }); });
  let log = "";
  return new Promise((resolve) => {
    child.stderr.on("data", (data) => {
      log = (log + data).slice(-4000);
      const url = /listening on (http:[^\s]+)/.exec(log)?.[1];
      if (url) resolve({ url, stop: () => child.kill("SIGTERM") });
    });
    child.on("error", (error) => stop(`page tests: ${error.message}`));
    child.on("exit", (code) => { if (!/listening on/.test(log)) stop(`page tests: the server ended (exit code ${code}):\n${log}`); });
  });
}

const executablePath = browserPath();
if (!isMock && !process.env.TRIVEC_BIN) stop("page tests: TRIVEC_BIN names the binary to test; --mock runs without one.");
const [{ chromium }, { checks }, { RULES }, { Guard }] = await Promise.all([import("playwright-core"), import("./checks.mjs"), import("./checks_sites.mjs"), import("./guard.mjs")]);
const server = isMock ? await (await import("./mock.mjs")).start() : await startBinary(path.resolve(process.env.TRIVEC_BIN));
// Chromium's sandbox does not work for root, which is who containers run as.
const browser = await chromium.launch({ executablePath, timeout: 180_000, args: [RULES, ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])] });
console.log(`page tests: ${isMock ? "mock" : process.env.TRIVEC_BIN}, Chromium ${browser.version()}`);

let failed = 0;
let ran = 0;
for (const [name, check] of Object.entries(checks)) {
  if (only.length && !only.includes(name)) continue;
  ran++;
  const guard = new Guard(browser, server.url, out, isMock);
  try {
    const note = await check(guard);
    await guard.violations();
    guard.verify();
    console.log(`  ok    ${name}${note ? ` (${note})` : ""}`);
  } catch (error) {
    failed++;
    console.log(`  FAIL  ${name}: ${error.stack ?? error}`);
    await guard.picture(`failed-${name}`).catch(() => {});
  } finally {
    await guard.close();
  }
}
await browser.close();
server.stop();
console.log(`${ran - failed} of ${ran} passed; screenshots in ${out}`);
process.exit(failed || ran === 0 ? 1 : 0);
