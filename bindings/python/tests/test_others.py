"""Tests of `trivec.aio`, and of the classes with other libraries' methods."""

import asyncio
import subprocess
import sys
import threading

import numpy as np
import pytest

import trivec
import trivec.aio
from trivec import encoders, fastembed

TEXTS = ["the cat sat", "", "天気がいい"]


def test_asyncio(model):
    async def main():
        async with trivec.aio.Model(model, queue=2) as own:
            calls = [asyncio.create_task(own.encode(TEXTS, modes="all")) for _ in range(5)]
            await asyncio.sleep(0)
            assert own.queue_depth == 5
            with pytest.raises(trivec.InputTypeError):
                await own.encode([1])
            return await asyncio.gather(*calls)

    expected = model.encode(TEXTS, modes="all")
    for found in asyncio.run(main()):
        assert (found.dense == expected.dense).all() and found.lexical == expected.lexical


@pytest.mark.parametrize("watched", [True, False])
def test_a_call_that_nobody_waits_for_ends_after_its_batch(model, watched):
    """A call whose task is cancelled while it is being computed ends at the next batch, with a progress callback of its own or without one, and the
    next call is served."""
    held, go_on, seen, failed = threading.Event(), threading.Event(), [], []

    def progress(done, total):
        seen.append((done, total))
        held.set()
        assert go_on.wait(60)

    def encode(texts, *, progress, **options):
        # Stands between the call and the model: it holds the call at its first batch, and keeps the error with which it ends.
        def told(done, total):
            result = progress(done, total)
            if not watched and not held.is_set():
                held.set()
                assert go_on.wait(60)
            return result

        try:
            return model.encode(texts, progress=told, **options)
        except trivec.Cancelled as error:
            failed.append(error)
            raise

    async def main():
        async with trivec.aio.Model(model) as own:
            options = {"progress": progress} if watched else {}
            call = asyncio.create_task(own._call(encode, ["a b"] * 600, **options))
            assert await asyncio.get_running_loop().run_in_executor(None, held.wait, 60)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not failed
            go_on.set()
            return await own.encode(TEXTS)

    assert len(asyncio.run(main())) == 3
    assert len(failed) == 1 and len(seen) == int(watched)


def test_a_call_that_nobody_waits_for_does_not_begin(model):
    """A call whose task is cancelled while another is being computed does not run, and the next call is served."""
    held, go_on = threading.Event(), threading.Event()

    async def main():
        async with trivec.aio.Model(model) as own:
            first = asyncio.create_task(own.encode(["hold"], progress=lambda *_: (held.set(), go_on.wait(60))))
            await asyncio.get_running_loop().run_in_executor(None, held.wait, 60)
            second = asyncio.create_task(own.encode(["a b"] * 100_000))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go_on.set()
            await first
            return await own.encode(TEXTS)

    assert len(asyncio.run(main())) == 3


def test_sentence_encoder(model):
    encoder = encoders.SentenceEncoder(model, prompts={"query": "q: "})
    vectors = encoder.encode(TEXTS)
    assert (vectors == model.encode(TEXTS).dense).all() and encoder.encode("a").shape == (64,)
    assert (encoder.encode_query("a") == model.encode("q: a").dense).all()
    assert (encoder.encode_document("a") == model.encode("a").dense).all()
    assert encoder.encode([]).shape == (0,) and encoder.get_embedding_dimension() == 64
    assert np.allclose(encoder.encode(TEXTS, truncate_dim=8), vectors[:, :8])
    assert np.allclose(np.linalg.norm(encoder.encode(TEXTS, truncate_dim=8, normalize_embeddings=True), axis=1), 1)
    assert np.allclose(np.diag(encoder.similarity(vectors, vectors)), 1)
    assert isinstance(encoder.encode(TEXTS, convert_to_numpy=False), list)
    for bad in ({"prompt_name": "no"}, {"precision": "int8"}, {"convert_to_tensor": True}):
        with pytest.raises(trivec.OptionError):
            encoder.encode(TEXTS, **bad)


def test_cross_encoder(reranker):
    encoder = encoders.CrossEncoder(reranker)
    scores = encoder.predict([("q", text) for text in TEXTS])
    assert scores.dtype == np.float32 and encoder.predict(("q", TEXTS[0])) == scores[0]
    ranked = encoder.rank("q", TEXTS, top_k=2, return_documents=True)
    assert [one["corpus_id"] for one in ranked] == np.argsort(-scores, kind="stable")[:2].tolist()
    assert ranked[0]["text"] == TEXTS[ranked[0]["corpus_id"]]
    logits = encoder.predict([("q", text) for text in TEXTS], activation_fn=lambda x: x)
    assert np.allclose(1 / (1 + np.exp(-logits)), scores, atol=1e-6)


def test_fastembed(model, reranker):
    dense = fastembed.TextEmbedding(model)
    found = dense.embed((text for text in TEXTS), batch_size=2)
    assert not isinstance(found, list)
    assert (np.stack(list(found)) == model.encode(TEXTS).dense).all() and dense.embedding_size == 64
    assert next(dense.query_embed("a")).shape == (64,) and dense.token_count(["a", ""]) == 5
    sparse = list(fastembed.SparseTextEmbedding(model).embed(TEXTS))
    assert [one.as_dict() for one in sparse] == model.encode(TEXTS, modes="sparse").lexical
    assert sorted(sparse[0].as_object()) == ["indices", "values"]
    late = list(fastembed.LateInteractionTextEmbedding(model).passage_embed(TEXTS))
    assert [rows.shape[1] for rows in late] == [64] * 3
    assert list(fastembed.TextCrossEncoder(reranker).rerank("q", TEXTS)) == reranker.score([("q", t) for t in TEXTS])[0].tolist()


def test_modules_are_there_when_they_are_named():
    """After `import trivec` alone, the modules can be used by the names that `docs/python.md` has."""
    code = """
import sys, trivec
assert not any(name in sys.modules for name in ("trivec.aio", "trivec.batch", "trivec.flag", "numpy"))
assert trivec.aio.Model and trivec.encoders.SentenceEncoder and trivec.fastembed.TextEmbedding and trivec.flag.BGEM3FlagModel
assert {"aio", "batch", "ray", "spark", "st", "Model"} <= set(dir(trivec))
assert trivec.aio is sys.modules["trivec.aio"]
try:
    trivec.nothing
except AttributeError as error:
    assert "'nothing'" in str(error), error
else:
    raise AssertionError("there is such a module")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
