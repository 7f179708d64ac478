"""Tests of what `trivec.flag` refuses, warns of and accepts. test_reference.py compares its results with FlagEmbedding's."""

import collections
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import DATA, EMBEDDER, RERANKER

import trivec
from trivec import flag


@pytest.fixture(scope="module")
def m3():
    return flag.BGEM3FlagModel(EMBEDDER, use_fp16=True)


@pytest.fixture(scope="module")
def reranker():
    return flag.FlagReranker(RERANKER, use_fp16=True)


def test_the_types_of_results(m3):
    out = m3.encode(["hi there", "hi"], return_dense=True, return_sparse=True, return_colbert_vecs=True)
    assert list(out) == ["dense_vecs", "lexical_weights", "colbert_vecs"]
    lexical = out["lexical_weights"][0]
    assert type(lexical) is collections.defaultdict and lexical["no such id"] == 0
    assert all(type(key) is str and key.isdigit() for key in list(lexical)[:-1])
    assert all(type(value) is np.float32 for key, value in lexical.items() if key != "no such id")
    assert type(out["colbert_vecs"]) is list and out["colbert_vecs"][0].dtype == np.float32
    alone = m3.encode("hi")
    assert alone["dense_vecs"].shape == (64,) and alone["lexical_weights"] is None and alone["colbert_vecs"] is None


def test_nothing_gives_nothing(m3, reranker):
    out = m3.encode([], return_sparse=True, return_colbert_vecs=True)
    assert out["dense_vecs"].shape == (0, 64) and out["lexical_weights"] == [] and out["colbert_vecs"] == []
    assert m3.compute_score([]) == [] and m3.compute_score(()) == [] and reranker.compute_score([]) == []


@pytest.mark.parametrize("texts", [np.array(["a", "b"]), ("a", "b")])
def test_any_sequence_of_texts(m3, texts):
    assert (m3.encode(texts)["dense_vecs"] == m3.encode(["a", "b"])["dense_vecs"]).all()


@pytest.mark.parametrize(
    ("texts", "kind", "index"),
    [
        ((x for x in "ab"), TypeError, None),
        (None, TypeError, None),
        (["a", None], TypeError, 1),
        ([1], TypeError, 0),
        ([b"x"], TypeError, 0),
        ([float("nan")], TypeError, 0),
        (["a", "\ud800"], ValueError, 1),
        ([("a", "b")], TypeError, 0),
    ],
)
@pytest.mark.parametrize("call", ["encode", "encode_queries", "encode_corpus"])
def test_what_is_no_text_is_refused(m3, texts, kind, index, call):
    with pytest.raises(kind) as refused:
        getattr(m3, call)(texts)
    assert refused.value.index == index


def test_what_is_no_text_is_refused_with_an_instruction_too():
    model = flag.BGEM3FlagModel(EMBEDDER, query_instruction_for_retrieval="find: ")
    with pytest.raises(TypeError, match="input 1"):
        model.encode_queries(["a", 5])


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"return_dense": False}, ValueError),
        ({"max_length": 1}, ValueError),
        ({"max_length": 0}, ValueError),
        ({"max_length": -5}, ValueError),
        ({"max_length": 2.5}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"no_such_thing": 1}, TypeError),
    ],
)
def test_arguments_that_make_no_sense(m3, keywords, kind):
    with pytest.raises(kind, match=next(iter(keywords))):
        m3.encode(["a"], **keywords)


def test_a_length_above_the_models_is_the_models_with_one_warning(monkeypatch):
    monkeypatch.setattr(flag._common, "_said", set())
    model = flag.BGEM3FlagModel(EMBEDDER)
    with pytest.warns(UserWarning, match="8192 is more than the model reads: texts are cut to 520"):
        long = model.encode(["word " * 600], max_length=8192, return_colbert_vecs=True)
    assert long["colbert_vecs"][0].shape == (519, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(["a"], max_length=8192)


@pytest.mark.parametrize("devices", ["cuda:0", ["cuda:0", "cuda:1"], 0, [0, 1]])
def test_other_devices_are_the_cpu_with_one_warning(monkeypatch, devices):
    monkeypatch.setattr(flag._common, "_said", set())
    with pytest.warns(UserWarning, match="CPU") as said:
        model = flag.BGEM3FlagModel(EMBEDDER, devices=devices)
        model.encode(["a"])
    assert len(said) == 1
    expected = {"cuda:0": ["cuda:0"], 0: ["cuda:0"]}.get(devices if not isinstance(devices, list) else None, ["cuda:0", "cuda:1"])
    assert model.target_devices == expected


def test_device_is_taken_as_devices_are(monkeypatch):
    monkeypatch.setattr(flag._common, "_said", set())
    with pytest.warns(UserWarning, match="'cuda'"):
        model = flag.BGEM3FlagModel(EMBEDDER, device="cuda", use_fp16=True)
    assert model.device == "cuda" and model.kwargs == {"device": "cuda"} and model.target_devices == ["cpu"]
    with pytest.raises(ValueError):
        flag.BGEM3FlagModel(EMBEDDER, devices={})


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [1, 1, float("inf")], [1, 1, float("nan")], 3, "abc"])
def test_weights_that_are_none(m3, weights):
    with pytest.raises(ValueError):
        m3.compute_score([["a", "b"]], weights_for_different_modes=weights)


def test_weights_of_colbert_alone(m3):
    scores = m3.compute_score([["a", "b"]], weights_for_different_modes=[0, 0, 1])
    assert np.isnan(scores["sparse+dense"][0]) and scores["colbert+sparse+dense"] == scores["colbert"]
    assert list(scores) == ["colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense"]
    assert all(type(value) is float for values in scores.values() for value in values)


@pytest.mark.parametrize("pairs", [[("a", "b", "c")], [("a",)], [("a", "b"), 3], ["a", 3], "ab", [["a", None]]])
def test_what_is_no_pair(m3, reranker, pairs):
    for model in (m3, reranker):
        with pytest.raises((ValueError, TypeError)) as refused:
            model.compute_score(pairs)
        assert isinstance(refused.value, trivec.Error)


def test_a_reranker(reranker, monkeypatch):
    (one,) = reranker.compute_score(["q", "p"])
    assert type(one) is float and reranker.compute_score(("q", "p")) == [one] and reranker.compute_score([("q", "p")]) == [one]
    (normalised,) = reranker.compute_score(["q", "p"], normalize=True)
    assert abs(normalised - 1 / (1 + np.exp(-one))) < 1e-12
    monkeypatch.setattr(flag._common, "_said", {"devices"})
    several = flag.FlagReranker(RERANKER, devices=["cuda:0", "cuda:1"]).compute_score([("q", "p")])
    assert isinstance(several, np.ndarray) and several.dtype == np.float64
    for bad in ({"max_length": 5}, {"query_max_length": 0}, {"batch_size": 0}, {"nothing": 1}):
        with pytest.raises((ValueError, TypeError)):
            reranker.compute_score([("q", "p")], **bad)


def test_models_of_the_wrong_kind():
    with pytest.raises(ValueError, match="FlagReranker"):
        flag.BGEM3FlagModel(RERANKER)
    with pytest.raises(ValueError, match="embedder"):
        flag.FlagReranker(EMBEDDER)
    with pytest.raises(ValueError, match="pooling_method"):
        flag.FlagModel(EMBEDDER, pooling_method="mean")
    with pytest.raises(FileNotFoundError, match="trivec pull"):
        flag.BGEM3FlagModel("BAAI/bge-m3")
    for name in ("FlagICLModel", "FlagLLMModel", "FlagPseudoMoEModel", "FlagLLMReranker", "LayerWiseFlagLLMReranker", "LightWeightFlagLLMReranker"):
        with pytest.raises(ValueError, match="XLM-RoBERTa"):
            getattr(flag, name)("BAAI/some-model", use_fp16=True)


def test_the_automatic_classes(tmp_path):
    model = flag.FlagAutoModel.from_finetuned(EMBEDDER, model_class="encoder-only-m3")
    assert type(model) is flag.BGEM3FlagModel and type(model).__name__ == "M3Embedder"
    assert type(flag.FlagAutoModel.from_finetuned(EMBEDDER, model_class=flag.EmbedderModelClass.ENCODER_ONLY_BASE)) is flag.FlagModel
    (tmp_path / "bge-m3").symlink_to(EMBEDDER)
    assert isinstance(flag.FlagAutoModel.from_finetuned(str(tmp_path / "bge-m3"), devices="cpu"), flag.BGEM3FlagModel)
    (tmp_path / "bge-reranker-v2-m3").mkdir()
    (tmp_path / "bge-reranker-v2-m3" / "checkpoint-100").symlink_to(RERANKER)
    found = flag.FlagAutoReranker.from_finetuned(str(tmp_path / "bge-reranker-v2-m3" / "checkpoint-100"))
    assert isinstance(found, flag.FlagReranker) and type(found).__name__ == "BaseReranker"
    for auto in (flag.FlagAutoModel, flag.FlagAutoReranker):
        with pytest.raises(EnvironmentError):
            auto()
        with pytest.raises(ValueError, match="not found in the model mapping"):
            auto.from_finetuned("my/own")
        with pytest.raises(ValueError):
            auto.from_finetuned(EMBEDDER, model_class="no-such-class")
    with pytest.raises(ValueError, match="XLM-RoBERTa"):
        flag.FlagAutoModel.from_finetuned("BAAI/bge-large-en-v1.5")


def test_what_third_parties_read(m3):
    assert m3.model.model.config.hidden_size == 64 and m3.model.colbert_linear.out_features == 64 and len(m3.tokenizer) == 300
    assert m3.tokenizer.decode([6]) == "a" and m3.tokenizer.convert_ids_to_tokens([0, 6]) == ["<s>", "a"]
    assert m3.tokenizer("a a")["input_ids"] == m3.tokenizer.encode("a a")
    for name in ("model_name_or_path", "normalize_embeddings", "use_fp16", "target_devices", "batch_size", "query_max_length", "pooling_method"):
        assert hasattr(m3, name)
    pool = m3.start_multi_process_pool(None)
    assert sorted(pool) == ["input", "output", "processes"]
    assert (m3.encode_multi_process(["a"], pool)["dense_vecs"] == m3.encode(["a"])["dense_vecs"]).all()
    m3.stop_multi_process_pool(pool)
    m3.stop_self_pool()


def test_models_are_pickled_by_reference(m3, reranker):
    data = pickle.dumps(m3)
    assert len(data) < 1500
    assert (pickle.loads(data).encode(["a"])["dense_vecs"] == m3.encode(["a"])["dense_vecs"]).all()
    assert pickle.loads(pickle.dumps(reranker)).compute_score(["a", "b"]) == reranker.compute_score(["a", "b"])


def test_scripts_run_unmodified(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import importlib.util
assert importlib.util.find_spec("FlagEmbedding") is not None
from FlagEmbedding import BGEM3FlagModel, FlagAutoModel
from FlagEmbedding.inference import FlagReranker
from FlagEmbedding.abc.inference import AbsEmbedder
import FlagEmbedding.inference.embedder.encoder_only.m3 as m3
import sys
def main():
    model = BGEM3FlagModel({EMBEDDER!r}, devices="cuda:0", use_fp16=True)
    assert isinstance(model, AbsEmbedder) and isinstance(model, m3.M3Embedder)
    out = model.encode(["a", "b"], return_dense=True, return_sparse=True)
    print(sys.argv[1:], __name__, out["dense_vecs"] @ out["dense_vecs"].T)
if __name__ == "__main__":
    main()
""")
    done = subprocess.run(
        [sys.executable, "-m", "trivec.as_flagembedding", str(script), "x", "--y"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("['x', '--y'] __main__ [["), done.stderr
    assert done.stderr.count("UserWarning") == 1
    assert subprocess.run([sys.executable, "-m", "trivec.as_flagembedding"], capture_output=True).returncode != 0


def test_a_progress_bar_where_the_reference_has_one(m3, capsys):
    tqdm = pytest.importorskip("tqdm")
    assert tqdm
    m3.encode(["a"] * 3, batch_size=4)
    assert capsys.readouterr().err == ""
    m3.encode(["a"] * 4, batch_size=4)
    shown = capsys.readouterr().err
    assert "Inference Embeddings" in shown and "4/4" in shown


def test_other_pooling_is_the_models_own():
    model = flag.FlagModel(str(DATA / "models" / "mean-dense-h64"), pooling_method="mean")
    assert model.encode(["a"]).ndim == 2


def test_the_refusal_of_another_pooling_says_what_to_pass():
    """FlagEmbedding's default is 'cls', so its callers need not know that the model pools otherwise."""
    mean = str(DATA / "models" / "mean-dense-h64")
    with pytest.raises(trivec.OptionError, match="pass pooling_method='mean'"):
        flag.FlagModel(mean)
    assert flag.FlagModel(mean, pooling_method="mean").pooling_method == "mean"
