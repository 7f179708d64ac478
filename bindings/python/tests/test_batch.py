"""Tests of `trivec.batch`: the columns of vectors that it adds, and what it refuses."""

import numpy as np
import pytest
from conftest import EMBEDDER

import trivec

pa = pytest.importorskip("pyarrow")
import trivec.batch  # noqa: E402

TEXTS = ["the cat sat", None, "", "天気がいい", None, "a dog"]


@pytest.fixture
def batch():
    return pa.RecordBatch.from_pydict({"id": list(range(6)), "text": TEXTS})


def test_the_columns_of_all_modes(model, batch):
    made = trivec.batch.embed_table(batch, model, modes="all")
    made.validate(full=True)
    assert made.schema == trivec.batch.schema(batch.schema, model, modes="all") and made.schema.names == ["id", "text", "dense", "sparse", "colbert"]
    expected = iter(zip(*(lambda e: (e.dense, e.lexical, e.colbert))(model.encode([t for t in TEXTS if t is not None], modes="all"))))
    for row, text in zip(made.to_pylist(), TEXTS):
        if text is None:
            assert row["dense"] is None and row["sparse"] is None and row["colbert"] is None
            continue
        dense, lexical, colbert = next(expected)
        assert (np.array(row["dense"], np.float32) == dense).all()
        assert {pair["id"]: pair["weight"] for pair in row["sparse"]} == lexical
        assert (np.array(row["colbert"], np.float32) == colbert).all()


def test_a_table_may_be_cut_anywhere(model, batch):
    whole = trivec.batch.embed_table(batch, model, modes="all").to_pylist()
    parts = [trivec.batch.embed_table(batch.slice(at, 1), model, modes="all").to_pylist()[0] for at in range(6)]
    assert parts == whole


def test_options_and_refusals(batch):
    made = trivec.batch.embed_table(batch, EMBEDDER, dimensions=8, threads=1)
    assert made.schema.field("dense").type == pa.list_(pa.float32(), 8)
    assert trivec.batch.model(EMBEDDER, 1) is trivec.batch.model(EMBEDDER, 1)
    assert trivec.batch.embed_table(batch.slice(0, 0), EMBEDDER, threads=1).num_rows == 0
    large = batch.set_column(1, "text", batch.column("text").cast(pa.large_string()))
    assert trivec.batch.embed_table(large, EMBEDDER, threads=1).column("dense") == trivec.batch.embed_table(batch, EMBEDDER, threads=1).column("dense")
    for options in ({"column": "no"}, {"column": "id"}, {"dimensions": 1000}, {"modes": "x"}):
        with pytest.raises(trivec.OptionError):
            trivec.batch.embed_table(batch, EMBEDDER, threads=1, **options)
    with pytest.raises(trivec.OptionError, match="already"):
        trivec.batch.embed_table(batch.append_column("dense", batch.column("id")), EMBEDDER, threads=1)
