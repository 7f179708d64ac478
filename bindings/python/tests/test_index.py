"""`trivec.Index`."""

import pytest
from conftest import DATA

import trivec


@pytest.fixture
def index(model, tmp_path):
    index = trivec.Index(tmp_path / "index", model, create=True)
    documents = [
        {"key": "cat", "text": "the cat sat on the mat", "year": 2020, "lang": "en"},
        {"key": "dog", "text": "a dog in the garden", "year": 2024, "metadata": {"tags": ["a", "b"]}},
        ("plain", "nothing but a text"),
    ]
    assert index.add(documents) == 3
    return index


def test_found_with_a_reason(index):
    hits = index.search("cat", explain=True)
    assert hits[0]["document"]["key"] == "cat" and hits[0]["rank"] == 1 and hits[0]["explanation"]["snippet"]
    assert [hit["document"]["key"] for hit in index.search("cat", filter="year > 2021")] == ["dog"]
    with pytest.raises(trivec.OptionError, match="no document has a field `yaer`, only .*year"):
        index.search("cat", filter="yaer > 2021")
    chunks = [{"key": f"long#{n}", "text": f"part {n}", "document": "long"} for n in range(2)]
    index.add(chunks)
    assert index.get("long") == {"key": "long", "chunks": chunks} and index.get("long#1") == chunks[1]
    index.delete("long")
    assert len(index.search("the", top=1)) == 1 and len(index.search("cat", arms="bm25", rerank=0)) == 1
    assert index.get("dog")["metadata"] == {"tags": ["a", "b"], "year": 2024} and len(index) == 3


def test_what_is_said_of_a_search(model, tmp_path):
    index = trivec.Index(tmp_path / "short", model, create=True, max_length=8)
    index.add([("cat", "the cat sat on the mat")])
    hits = index.search("cat")
    assert isinstance(hits, list) and hits.searched == 1 and not hits.in_chunks and not hits.query_truncated and hits.timings["total_ms"] > 0
    assert index.search("the cat that sat on the mat and looked at the weather").query_truncated


def test_an_index_keeps_its_options(index, model, tmp_path):
    trivec.Index(tmp_path / "index", model)
    trivec.Index(tmp_path / "index", model, create=True, colbert=4)
    for options, found in [({"colbert": 8}, "colbert: found 8.*made with 4"), ({"language": "de"}, "language: found de"), ({"max_length": 9}, "max_length")]:
        for create in (True, False):
            with pytest.raises(trivec.OptionError, match=found):
                trivec.Index(tmp_path / "index", model, create=create, **options)
    for options in ({"language": "xx"}, {"max_length": 10**6}):
        with pytest.raises(trivec.OptionError):
            trivec.Index(tmp_path / "new", model, create=True, **options)
        assert not (tmp_path / "new").exists()


def test_changed(index, model):
    assert index.add([("cat", "now it is a fish")]) == 1 and len(index) == 3
    index.delete("dog", "plain")
    assert len(index) == 1
    with pytest.raises(KeyError, match="dog"):
        index.get("dog")
    index.delete("dog")
    assert len(index) == 1
    index.compact(all=True)
    assert index.stats()["deleted"] == 0 and index.get("cat")["text"] == "now it is a fish"


@pytest.mark.parametrize(
    "documents",
    [[{"key": "a"}], [{"text": "a"}], ["a"], [("", "text")], [{"key": "a", "text": "b", "x": object()}], [{"key": "a", "text": "b", "x": float("nan")}], [("a", 5)]],
)
def test_documents_that_are_refused(index, documents):
    with pytest.raises(trivec.Error):
        index.add([("good", "a text"), *documents])
    assert len(index) == 3


@pytest.mark.parametrize(
    ("document", "kind"),
    [(("a", 5), TypeError), ((5, "a"), TypeError), (("a", "\ud800"), ValueError), ({"key": "a", "text": "b", "title": "\ud800"}, ValueError)],
)
def test_what_is_no_text_is_refused_by_its_place(index, document, kind):
    with pytest.raises(kind) as refused:
        index.add([("good", "a text"), document])
    assert isinstance(refused.value, trivec.Error) and refused.value.index == 1
    with pytest.raises(trivec.InputError):
        index.search("\ud800")


def test_queries_and_indices_that_are_refused(index, model, tmp_path):
    for options in ({"top": 10**9}, {"top": -1}, {"rerank": 1.5}, {"filter": "year >"}, {"arms": "left"}, {"lang": "xx"}, {"lang": "english"}):
        with pytest.raises(trivec.OptionError):
            index.search("cat", **options)
    for empty in ("", " \n", "\0\u200b"):
        with pytest.raises(trivec.OptionError, match="query"):
            index.search(empty)
    with pytest.raises(FileNotFoundError):
        trivec.Index(tmp_path / "nowhere", model)
    with pytest.raises(trivec.OptionError):
        trivec.Index(tmp_path / "other", model, create=True, colbert="3")
    other = trivec.Model(DATA / "models" / "f16-h128")
    with pytest.raises(trivec.IndexDamaged, match="model"):
        trivec.Index(tmp_path / "index", other)
