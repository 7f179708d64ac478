"""Calls of FlagEmbedding's classes, by which `trivec.flag` is compared with the real ones.

`PYTHON_WITH_FLAGEMBEDDING reference_cases.py` makes the calls with FlagEmbedding itself (1.4.2, transformers 5.10.4, torch on the CPU) on the
repository's tiny checkpoints and writes `reference.json.gz`; `test_reference.py` makes them with `trivec.flag` and compares.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("TRIVEC_TEST_DATA") or HERE.parents[2] / "tests" / "data")
M3, RERANKER = "models/f32-h64", "rerankers/reranker-h48"

TEXTS = [
    "the cat sat on the mat",
    "",
    "a",
    "the the the cat cat sat",
    "Der Hund liegt auf der Matte.",
    "天気がいいから、散歩しましょう。",
    "the <mask> sat </s> on <s> the mat",
    "  two  spaces\tand\na line\r\n",
    "a\0b",
    "e\u0301 é ﬁ ① Ａ",
    "word " * 30,
    "zzz qqq xxx 0123456789 !?",
    "emoji 🎉 and 한국어 and Русский текст",
]
PAIRS = [[TEXTS[0], TEXTS[3]], [TEXTS[0], TEXTS[4]], [TEXTS[5], TEXTS[12]], [TEXTS[2], TEXTS[10]], ["", TEXTS[0]], [TEXTS[10], ""]]
# With transformers 5 the reference decodes a pair's ids and tokenises the result again, which changes some texts, and it leaves out an empty document. These
# pairs stay as they are.
WORDS = " ".join(["word"] * 30)
PLAIN = [[TEXTS[0], TEXTS[3]], [TEXTS[2], TEXTS[0]], [TEXTS[2], WORDS], ["", TEXTS[0]], [WORDS, WORDS]]
# By default the reference rounds weights to f16, even on the CPU, where it computes in f32.
F32 = {"use_fp16": False}
ALL = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}

# name: (class, model, arguments of the constructor, method, arguments, keywords)
CASES: dict[str, tuple] = {
    "default": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS], {}),
    "all": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS], ALL),
    "all of one str": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS[0]], ALL),
    "dense of one str": ("BGEM3FlagModel", M3, F32, "encode", ["hi"], {}),
    "an empty str": ("BGEM3FlagModel", M3, F32, "encode", [""], ALL),
    "sparse alone": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS[:4]], {"return_dense": False, "return_sparse": True}),
    "colbert alone": ("BGEM3FlagModel", M3, {**F32, "return_dense": False, "return_colbert_vecs": True}, "encode", [TEXTS[:4]], {}),
    "a tuple": ("BGEM3FlagModel", M3, F32, "encode", [("a", "b")], {}),
    "max_length 2": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS[:3]], {**ALL, "max_length": 2}),
    "max_length 5": ("BGEM3FlagModel", M3, F32, "encode", [TEXTS], {**ALL, "max_length": 5, "batch_size": 3}),
    "not normalised": ("BGEM3FlagModel", M3, {**F32, "normalize_embeddings": False}, "encode", [TEXTS[:4]], ALL),
    "cut": ("BGEM3FlagModel", M3, {**F32, "truncate_dim": 8}, "encode", [TEXTS[:4]], ALL),
    "cut at more than there is": ("BGEM3FlagModel", M3, {**F32, "truncate_dim": 100}, "encode", [TEXTS[:2]], ALL),
    "cut, not normalised": ("BGEM3FlagModel", M3, {**F32, "truncate_dim": 8, "normalize_embeddings": False}, "encode", [TEXTS[:4]], ALL),
    "queries": (
        "BGEM3FlagModel",
        M3,
        {**F32, "query_instruction_for_retrieval": "find: ", "query_instruction_format": "{}\\n{}", "query_max_length": 9},
        "encode_queries",
        [TEXTS[:5]],
        ALL,
    ),
    "corpus": (
        "BGEM3FlagModel",
        M3,
        {**F32, "passage_instruction_for_retrieval": "text: ", "passage_max_length": 11, "device": "cpu"},
        "encode_corpus",
        [TEXTS[:5]],
        ALL,
    ),
    "one device": ("BGEM3FlagModel", M3, {**F32, "devices": "cpu"}, "encode_single_device", [TEXTS[:3]], {"return_sparse": True}),
    "scores": ("BGEM3FlagModel", M3, F32, "compute_score", [PAIRS[:1]], {}),
    "scores, short": ("BGEM3FlagModel", M3, F32, "compute_score", [PAIRS[:1]], {"max_query_length": 5, "max_passage_length": 7}),
    "a pair": ("BGEM3FlagModel", M3, F32, "compute_score", [PAIRS[0]], {}),
    "a pair as a tuple": ("BGEM3FlagModel", M3, F32, "compute_score", [tuple(PAIRS[1])], {"weights_for_different_modes": [0.4, 0.2, 0.4]}),
    "ColBERT alone counts": ("BGEM3FlagModel", M3, F32, "compute_score", [PAIRS[0]], {"weights_for_different_modes": [0, 0, 1]}),
    "scores of no length": ("BGEM3FlagModel", M3, {**F32, "normalize_embeddings": False}, "compute_score", [PAIRS[0]], {}),
    "no scores": ("BGEM3FlagModel", M3, F32, "compute_score", [[]], {}),
    "dense model": ("FlagModel", M3, F32, "encode", [TEXTS[:5]], {}),
    "dense model, str": ("FlagModel", M3, F32, "encode", [TEXTS[0]], {}),
    "dense model, queries": ("FlagModel", M3, {**F32, "query_instruction_for_retrieval": "find: "}, "encode_queries", [TEXTS[:2]], {}),
    "dense model, cut": ("FlagModel", M3, {**F32, "truncate_dim": 8}, "encode", [TEXTS[:3]], {}),
    "dense model, not normalised": ("FlagModel", M3, {**F32, "normalize_embeddings": False}, "encode_corpus", [TEXTS[:3]], {}),
    "pairs": ("FlagReranker", RERANKER, {}, "compute_score", [PLAIN], {}),
    "a reranker's pair": ("FlagReranker", RERANKER, {}, "compute_score", [PLAIN[0]], {}),
    "normalised": ("FlagReranker", RERANKER, {"normalize": True}, "compute_score", [[tuple(pair) for pair in PLAIN]], {}),
    "normalised by the call": ("FlagReranker", RERANKER, {}, "compute_score", [PLAIN], {"normalize": True}),
    "short pairs": ("FlagReranker", RERANKER, {}, "compute_score", [PLAIN], {"max_length": 20, "query_max_length": 7}),
    "short pairs by default": ("FlagReranker", RERANKER, {"max_length": 24}, "compute_score", [PLAIN], {}),
    "instructions": (
        "FlagReranker",
        RERANKER,
        {"query_instruction_for_rerank": "the", "query_instruction_format": "{} {}", "passage_instruction_for_rerank": "on "},
        "compute_score",
        [PLAIN[:3]],
        {},
    ),
}


def described(value: Any) -> Any:
    """Describes a value and its types as JSON. The order of dicts is part of it."""
    kind = type(value).__name__
    if kind == "Tensor":
        # trivec gives numpy's float32 if torch is not imported.
        return {"type": "float32", "value": float(value)}
    if isinstance(value, np.ndarray):
        flat = [float(f"{x:.7g}") for x in value.ravel().tolist()]
        return {"type": "ndarray", "dtype": str(value.dtype), "shape": list(value.shape), "values": flat}
    if isinstance(value, np.generic):
        return {"type": kind, "value": float(f"{float(value):.7g}")}
    if isinstance(value, dict):
        return {"type": kind, "items": [[described(key), described(one)] for key, one in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"type": kind, "values": [described(one) for one in value]}
    return {"type": kind, "value": value}


TOLERANCE = 1e-5


def _close(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected)) or (math.isnan(found) and math.isnan(expected))
    return found == expected


def differences(found: Any, expected: Any, where: str) -> list[str]:
    """One line for each place at which two described values differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if found.keys() != expected.keys():
            return [f"{where}: {list(found)} for {list(expected)}"]
        return [d for key in found for d in differences(found[key], expected[key], f"{where}.{key}")]
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return [f"{where}: {len(found)} for {len(expected)}"]
        return [d for at, pair in enumerate(zip(found, expected)) for d in differences(*pair, f"{where}[{at}]")]
    return [] if _close(found, expected) else [f"{where}: {found!r} for {expected!r}"]


def answers(module: Any, path: Any) -> dict[str, Any]:
    """Makes all calls with `module`'s classes, and describes the results; `path` gives the path of a model."""
    loaded: dict[str, Any] = {}
    found = {}
    for name, (kind, model, options, method, arguments, keywords) in CASES.items():
        key = json.dumps([kind, options])
        if key not in loaded:
            loaded[key] = getattr(module, kind)(path(model), **options)
        found[name] = described(getattr(loaded[key], method)(*arguments, **keywords))
    m3 = loaded[json.dumps(["BGEM3FlagModel", F32])]
    encoded = m3.encode(TEXTS[:5], **ALL)
    lexical, colbert = encoded["lexical_weights"], encoded["colbert_vecs"]
    found["lexical score"] = described(m3.compute_lexical_matching_score(lexical[0], lexical[3]))
    found["lexical score of nothing"] = described(m3.compute_lexical_matching_score(lexical[0], lexical[1]))
    found["lexical scores"] = described(m3.compute_lexical_matching_score(lexical[:2], lexical))
    found["ColBERT score"] = described(m3.colbert_score(colbert[0], colbert[3]))
    found["tokens"] = described(m3.convert_id_to_token(lexical))
    found["tokens of one"] = described(m3.convert_id_to_token(lexical[0]))
    return found


def for_flagembedding(folder: pathlib.Path) -> Any:
    """A function that copies a checkpoint into the form that FlagEmbedding needs: heads in files of their own, and a configuration of the tokenizer."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    def path(model: str) -> str:
        to = folder / model
        if not to.exists():
            shutil.copytree(DATA / model, to)
            tensors = load_file(to / "model.safetensors")
            for head in ("colbert_linear", "sparse_linear"):
                own = {name.split(".")[1]: tensors.pop(name) for name in list(tensors) if name.startswith(head)}
                if own:
                    torch.save(own, to / f"{head}.pt")
            save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
            # Without this, transformers computes in the type that the weights are stored in.
            settings = json.loads((to / "config.json").read_text())
            (to / "config.json").write_text(json.dumps({**settings, "dtype": "float32"}))
            specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>"}
            settings = {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "<mask>", "model_max_length": 520, **specials}
            (to / "tokenizer_config.json").write_text(json.dumps(settings))
        return str(to)

    return path


if __name__ == "__main__":
    import FlagEmbedding

    with tempfile.TemporaryDirectory() as folder:
        found = answers(FlagEmbedding, for_flagembedding(pathlib.Path(folder)))
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    (HERE / "reference.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(len(found), "answers", len(text), "bytes", file=sys.stderr)
