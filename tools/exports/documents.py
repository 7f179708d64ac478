#!/usr/bin/env python3
"""Prints 500 documents for `tools/check_exports.sh`: what Python says of its own library, sentences in other languages, and documents that
stand at the limits of engines."""
import importlib
import json
import re

SENTENCES = {
    "zh": ["苹果公司发布了配备更好相机的新手机。", "明天山区将有大雨。", "这道汤是用胡萝卜、洋葱和土豆煮的。", "开往柏林的火车早上七点出发。"],
    "ru": ["Завтра в горах ожидается сильный дождь.", "Поезд в Берлин отправляется в семь часов утра."],
    "de": ["Morgen wird es in den Bergen stark regnen.", "Diese Suppe wird mit Karotten und Zwiebeln gekocht."],
    "th": ["ฉันดื่มกาแฟทุกเช้า"],
    "ar": ["أشرب القهوة كل صباح"],
}
MODULES = ["argparse", "ast", "asyncio", "collections", "csv", "datetime", "decimal", "difflib", "email.message", "fractions", "http.client",
           "json", "logging", "mailbox", "optparse", "os", "pathlib", "pickle", "random", "re", "shutil", "smtplib", "socket", "sqlite3",
           "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "typing", "unittest", "uuid", "zipfile"]


def library():
    """Names of Python's library with what is said of them."""
    seen = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in sorted(vars(module)):
            thing = getattr(module, attribute)
            # Of a class, its methods too.
            inner = sorted(vars(thing)) if isinstance(thing, type) else []
            for path, documented in [(f"{name}.{attribute}", thing)] + [(f"{name}.{attribute}.{i}", getattr(thing, i, None)) for i in inner]:
                text = getattr(documented, "__doc__", None)
                if isinstance(text, str) and 60 < len(text) < 1500 and text not in seen and not attribute.startswith("_"):
                    seen.add(text)
                    yield {"id": path, "text": re.sub(r"\s+", " ", text), "lang": "en", "depth": path.count("."), "tags": name.split(".")}


def limits():
    yield {"id": "it's \"quoted\" \\ back", "text": "A tab\there, a line\nthere, a backslash \\N and a NUL \0 in it.", "note": "a \0 too"}
    yield {"id": "long-" + "k" * 700, "text": "A key of 705 bytes is longer than an identifier of Elasticsearch."}
    yield {"id": "longer-" + "k" * 3000, "text": "A key of 3,007 bytes is longer than what a B-tree of PostgreSQL takes."}
    yield {"id": "no-words", "text": "…"}
    yield {"id": "control", "text": "A bell \a and a noncharacter \ufffe are refused by Vespa.", "price": -1.5, "deep": {"a": [1, "\u000b", None]}}
    words = " ".join(f"Sentence {i} of a very long document speaks of number {i * i}." for i in range(1700))
    yield {"id": "long-text", "text": words}
    for lang, sentences in SENTENCES.items():
        for number, text in enumerate(sentences):
            yield {"id": f"{lang}/{number}", "text": text, "lang": lang, "title": text[:8]}


documents = list(limits())
documents += [document for _, document in zip(range(500 - len(documents)), library())]
for document in documents:
    print(json.dumps(document, ensure_ascii=False))
