"""Tests of what `trivec.train` accepts, refuses, writes and returns. What training computes is tested in crates/train."""

import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from conftest import EMBEDDER, RERANKER

import trivec

PAIRS = [(f"cat number {at}", f"The cat with the number {at} sat on the mat, and the other {at + 1} did not.") for at in range(40)]
DEV = [{"query": f"dog number {at}", "passage": f"The dog with the number {at} lies in the sun."} for at in range(12)]
OPTIONS = {"dev": DEV, "evals": {"same": DEV}, "epochs": 2, "batch": 8}


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "model"
    told = []
    report = trivec.train(model, PAIRS, output, progress=lambda *what: told.append(what), **OPTIONS)
    return output, report, told


def test_a_trained_model(model, trained):
    output, report, told = trained
    assert report["data"]["pairs"] == 40 and report["data"]["dev_pairs"] == 12 and report["steps"] == [10, 5]
    assert [compared["name"] for compared in report["evals"]] == ["same"] and report["dev"]["queries"] == 12
    assert ("steps", 10, 10) in told and told[0][0] == "states"
    assert sorted(path.name for path in output.parent.iterdir()) == ["model"]
    again = trivec.Model(output, threads=2)
    found, before = again.encode(["a cat"], modes="all"), model.encode(["a cat"], modes="all")
    assert found.dense.shape == before.dense.shape and found.colbert[0].shape == before.colbert[0].shape
    # With this seed, the heads after an epoch are better than those of the start, so they are kept, and embeddings change.
    assert report["kept"] > 0 and not np.allclose(found.dense, before.dense) and found.lexical != before.lexical


def test_files_and_lists_are_the_same_data(model, trained, tmp_path):
    lines = [json.dumps({"query": query, "passage": passage}) for query, passage in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, DEV)))
    output = tmp_path / "model"
    trivec.train(model, tmp_path / "pairs.jsonl", output, **{**OPTIONS, "dev": str(tmp_path / "dev.jsonl")}, threads=1, work=tmp_path / "work")
    assert files(output) == files(trained[0])
    assert (tmp_path / "work" / "states.bin").exists()
    with pytest.raises(trivec.OptionError, match="there already"):
        trivec.train(model, PAIRS, output, **OPTIONS)
    trivec.train(model, (pair for pair in PAIRS), str(output), force=True, **OPTIONS)
    assert files(output) == files(trained[0])


def test_a_run_that_was_ended_goes_on(model, trained, tmp_path):
    def stop(what, done, total):
        if (what, done) == ("steps", 7):
            raise LookupError("enough")

    output = tmp_path / "model"
    with pytest.raises(LookupError, match="enough"):
        trivec.train(model, PAIRS, output, progress=stop, **OPTIONS)
    assert not output.exists()
    steps = []
    trivec.train(model, PAIRS, output, progress=lambda what, done, _: steps.append(done) if what == "steps" else None, **OPTIONS)
    assert steps[0] == 8 and files(output) == files(trained[0])


@pytest.mark.parametrize(
    ("pairs", "kind", "index", "match"),
    [
        ([], ValueError, None, "no pairs"),
        ([*PAIRS, {"query": "a"}], ValueError, 40, "passage"),
        ([*PAIRS, {"query": "a", "passage": None}], ValueError, 40, "null"),
        ([*PAIRS, "ab"], TypeError, 40, "str"),
        ([*PAIRS, ("a", "b", "c")], TypeError, 40, "tuple"),
        ([("a", b"b"), *PAIRS], ValueError, 0, "bytes"),
        ([("a", "\ud800"), *PAIRS], ValueError, 0, "surrogates"),
        ([{"query": "a", "passage": "b", "score": float("nan")}, *PAIRS], ValueError, 0, "Out of range"),
        ([{"query": "a", "passage": "b", "negatives": "c"}, *PAIRS], ValueError, 0, "list"),
        ([*PAIRS, DEV[0]], ValueError, None, "allow_overlap"),
        (None, TypeError, None, "NoneType"),
        (b"pairs", TypeError, None, "bytes"),
    ],
)
def test_pairs_that_cannot_be_taken(model, tmp_path, pairs, kind, index, match):
    with pytest.raises(kind, match=match) as refused:
        trivec.train(model, pairs, tmp_path / "model", **OPTIONS)
    assert isinstance(refused.value, trivec.Error) and refused.value.index == index
    assert type(pickle.loads(pickle.dumps(refused.value))) is type(refused.value)
    assert not (tmp_path / "model").exists()


def test_options_that_make_no_sense(model, tmp_path):
    for options in (
        {"temperature": 0},
        {"epochs": 0},
        {"epochs": -2},
        {"seed": "x"},
        {"threads": 0},
        {"lambdas": (1, 2)},
        {"lambdas": (1, 0, 1)},
        {"teacher_weights": (0, 0, 0)},
        {"start": "nowhere"},
        {"heads": "dance"},
        {"max_query": 10_000},
    ):
        name = next(iter(options))
        with pytest.raises(trivec.OptionError, match={"lambdas": "lambda", "teacher_weights": "weights", "heads": "modes"}.get(name, name)):
            trivec.train(model, PAIRS, tmp_path / "model", **{**OPTIONS, **options})
    with pytest.raises(FileNotFoundError):
        trivec.train(model, tmp_path / "nowhere.jsonl", tmp_path / "model")
    with pytest.raises(trivec.OptionError, match="reranker"):
        trivec.train(trivec.Reranker(RERANKER), PAIRS, tmp_path / "model", **OPTIONS)
    own = tmp_path / "own"
    shutil.copytree(EMBEDDER, own)
    with pytest.raises(trivec.OptionError, match="holds the model"):
        trivec.train(trivec.Model(own), PAIRS, own, force=True, **OPTIONS)
