"""`BGEM3FlagModel` and `FlagModel`."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np

from .._errors import InputError, InputTypeError, OptionError
from .._locate import resolve
from .._model import Model
from .._texts import as_list
from .._trivec import colbert_score as _colbert_score
from ._common import AbsEmbedder, bar, check_batch_size, check_devices, checked_length, instructed, refuse_unknown


def _open(name: Any, cache_dir: Any) -> Model:
    model = Model(resolve(name, cache_dir))
    if model.info["rerank"]:
        raise OptionError(f"{name}: the model is a reranker: FlagReranker loads it")
    return model


class _Embedder(AbsEmbedder):
    def _options(
        self,
        model_name_or_path: str,
        engine: Model,
        devices: Any,
        pooling_method: str,
        truncate_dim: int | None,
        options: dict[str, Any],
        kwargs: dict[str, Any],
    ) -> None:
        own = engine.info["pooling"]
        if pooling_method != own:
            raise OptionError(
                f"pooling_method: found {pooling_method!r}, but by its files (modules.json) the model {model_name_or_path} pools by {own!r}: "
                f"pass pooling_method={own!r}"
            )
        if truncate_dim is not None and truncate_dim < 1:
            raise OptionError(f"truncate_dim: found {truncate_dim}, expected 1 or more")
        self.model_name_or_path = model_name_or_path
        self.pooling_method = pooling_method
        self.truncate_dim = truncate_dim
        for name, value in options.items():
            setattr(self, name, value)
        self._common(engine, devices, kwargs)

    def _cut(self, dim: int | None) -> int | None:
        return None if self.truncate_dim is None or dim is None else min(self.truncate_dim, dim)

    def _texts(self, sentences: Any, instruction: str | None, instruction_format: str | None) -> tuple[Any, bool]:
        texts, single = as_list(sentences)
        if instruction is not None:
            form = "{}{}" if instruction_format is None else instruction_format
            texts = [instructed(form, instruction, text, index) for index, text in enumerate(texts)]
        return texts, single

    def encode_queries(self, queries: Any, batch_size: int | None = None, max_length: int | None = None, **kwargs: Any) -> Any:
        return self.encode(
            queries,
            batch_size=batch_size,
            max_length=self.query_max_length if max_length is None else max_length,
            instruction=self.query_instruction_for_retrieval,
            instruction_format=self.query_instruction_format,
            **kwargs,
        )

    def encode_corpus(self, corpus: Any, batch_size: int | None = None, max_length: int | None = None, **kwargs: Any) -> Any:
        return self.encode(
            corpus,
            batch_size=batch_size,
            max_length=max_length,
            instruction=self.kwargs.get("passage_instruction_for_retrieval"),
            instruction_format=self.kwargs.get("passage_instruction_format", "{}{}"),
            **kwargs,
        )

    def encode_multi_process(self, sentences: Any, pool: Any, **kwargs: Any) -> Any:
        return self.encode_single_device(sentences, **kwargs)


class M3Embedder(_Embedder):
    """FlagEmbedding's `BGEM3FlagModel`."""

    DEFAULT_POOLING_METHOD = "cls"

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: Any = None,
        pooling_method: str = "cls",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        colbert_dim: int = -1,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ):
        engine = _open(model_name_or_path, cache_dir)
        own = engine.info["colbert_dim"]
        if colbert_dim not in (-1, own):
            raise OptionError(f"colbert_dim: found {colbert_dim}, but the model's ColBERT vectors have {own} values")
        options = {
            "normalize_embeddings": normalize_embeddings,
            "use_fp16": use_fp16,
            "use_bf16": use_bf16,
            "query_instruction_for_retrieval": query_instruction_for_retrieval,
            "query_instruction_format": query_instruction_format,
            "batch_size": batch_size,
            "query_max_length": query_max_length,
            "passage_max_length": passage_max_length,
            "return_dense": return_dense,
            "return_sparse": return_sparse,
            "return_colbert_vecs": return_colbert_vecs,
            "convert_to_numpy": True,
        }
        self._options(model_name_or_path, engine, devices, pooling_method, truncate_dim, options, kwargs)

    def encode(
        self,
        sentences: Any,
        batch_size: int | None = None,
        max_length: int | None = None,
        return_dense: bool | None = None,
        return_sparse: bool | None = None,
        return_colbert_vecs: bool | None = None,
        instruction: str | None = None,
        instruction_format: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        texts, single = self._texts(sentences, instruction, instruction_format)
        return self.encode_single_device(
            texts[0] if single else texts,
            batch_size=self.batch_size if batch_size is None else batch_size,
            max_length=self.passage_max_length if max_length is None else max_length,
            return_dense=self.return_dense if return_dense is None else return_dense,
            return_sparse=self.return_sparse if return_sparse is None else return_sparse,
            return_colbert_vecs=self.return_colbert_vecs if return_colbert_vecs is None else return_colbert_vecs,
            **kwargs,
        )

    def encode_single_device(
        self,
        sentences: Any,
        batch_size: int = 256,
        max_length: int = 512,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
        device: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        kwargs.pop("convert_to_numpy", None)
        refuse_unknown(kwargs, "encode")
        check_batch_size(batch_size)
        check_devices(device)
        if not (return_dense or return_sparse or return_colbert_vecs):
            raise OptionError("one at least of return_dense, return_sparse, return_colbert_vecs must be true")
        texts, single = as_list(sentences)
        info = self.engine.info
        told, end = bar(len(texts), batch_size, "Inference Embeddings")
        try:
            dense, sparse, colbert, _, _ = self.engine.engine.encode(
                texts,
                (bool(return_dense), bool(return_sparse), bool(return_colbert_vecs)),
                max_length=checked_length("max_length", max_length, self.engine),
                dimensions=self._cut(info["dense_dim"]),
                normalize=bool(self.normalize_embeddings),
                colbert_dimensions=self._cut(info["colbert_dim"]) if return_colbert_vecs else None,
                colbert_raw=not self.normalize_embeddings,
                prompt_text="",
                in_order=True,
                progress=told,
            )
        finally:
            end()
        lexical = None
        if sparse is not None:
            # Keys are str; values are numpy's float32, which iterating over the array gives.
            lexical = [defaultdict(int, zip(map(str, ids.tolist()), weights)) for ids, weights in sparse]
        first = (lambda of: None if of is None else of[0]) if single else (lambda of: of)
        return {"dense_vecs": first(dense), "lexical_weights": first(lexical), "colbert_vecs": first(colbert)}

    def convert_id_to_token(self, lexical_weights: Any) -> Any:
        items = [lexical_weights] if isinstance(lexical_weights, dict) else lexical_weights
        named = [{self.engine.decode([int(id)]): weight for id, weight in item.items()} for item in items]
        return named[0] if len(named) == 1 else named

    def compute_lexical_matching_score(self, lexical_weights_1: Any, lexical_weights_2: Any) -> Any:
        def of(a: dict, b: dict) -> Any:
            scores = 0
            for token, weight in a.items():
                if token in b:
                    scores += weight * b[token]
            return scores

        if isinstance(lexical_weights_1, dict) and isinstance(lexical_weights_2, dict):
            return of(lexical_weights_1, lexical_weights_2)
        if isinstance(lexical_weights_1, list) and isinstance(lexical_weights_2, list):
            return np.array([[of(a, b) for b in lexical_weights_2] for a in lexical_weights_1])
        raise OptionError("The input format of lexical_weights is not correct.")

    def colbert_score(self, q_reps: Any, p_reps: Any) -> Any:
        """The score as numpy's float32; as the reference's torch tensor if torch is imported already."""
        score = np.float32(_colbert_score(np.asarray(q_reps, dtype=np.float32), np.asarray(p_reps, dtype=np.float32)))
        torch = sys.modules.get("torch")
        return score if torch is None else torch.tensor(score)

    def compute_score(
        self,
        sentence_pairs: Any,
        batch_size: int | None = None,
        max_query_length: int | None = None,
        max_passage_length: int | None = None,
        weights_for_different_modes: Any = None,
        **kwargs: Any,
    ) -> Any:
        return self.compute_score_single_device(
            sentence_pairs,
            batch_size=self.batch_size if batch_size is None else batch_size,
            max_query_length=self.query_max_length if max_query_length is None else max_query_length,
            max_passage_length=self.passage_max_length if max_passage_length is None else max_passage_length,
            weights_for_different_modes=weights_for_different_modes,
            **kwargs,
        )

    def compute_score_multi_process(self, sentence_pairs: Any, pool: Any, **kwargs: Any) -> Any:
        return self.compute_score(sentence_pairs, **kwargs)

    def compute_score_single_device(
        self,
        sentence_pairs: Any,
        batch_size: int = 256,
        max_query_length: int = 512,
        max_passage_length: int = 512,
        weights_for_different_modes: Any = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        refuse_unknown(kwargs, "compute_score")
        check_batch_size(batch_size)
        check_devices(device)
        weights = _weights(weights_for_different_modes)
        pairs, one_pair = pairs_of(sentence_pairs)
        if not pairs:
            return []
        told, end = bar(len(pairs), batch_size, "Compute Scores")
        try:
            scores = self._scores(pairs, max_query_length, max_passage_length, told)
        finally:
            end()
        mixed = _mixed(*scores, weights)
        return {name: values[0] for name, values in mixed.items()} if one_pair else mixed

    def _scores(self, pairs: list, max_query_length: int, max_passage_length: int, told: Any) -> tuple[Any, Any, Any]:
        """The dense, sparse and ColBERT scores of all pairs, in float32."""

        def sides(texts: list[str], name: str, length: int) -> Any:
            return self.engine.engine.encode(
                texts,
                (True, True, True),
                max_length=checked_length(name, length, self.engine),
                normalize=bool(self.normalize_embeddings),
                colbert_raw=not self.normalize_embeddings,
                prompt_text="",
            )

        scores = np.empty((3, len(pairs)), dtype=np.float32)
        # ColBERT vectors are large, so those of only 256 pairs are in memory at a time.
        for first in range(0, len(pairs), 256):
            part = pairs[first : first + 256]
            q_dense, q_sparse, q_colbert, _, _ = sides([pair[0] for pair in part], "max_query_length", max_query_length)
            p_dense, p_sparse, p_colbert, _, _ = sides([pair[1] for pair in part], "max_passage_length", max_passage_length)
            for at in range(len(part)):
                scores[0, first + at] = np.dot(q_dense[at], p_dense[at])
                scores[1, first + at] = _lexical(q_sparse[at], p_sparse[at])
                scores[2, first + at] = _colbert_score(q_colbert[at], p_colbert[at])
            if told is not None:
                told(first + len(part), len(pairs))
        return scores[0], scores[1], scores[2]


def _lexical(a: Any, b: Any) -> float:
    of_b = dict(zip(b[0].tolist(), b[1].tolist()))
    return sum(weight * of_b[id] for id, weight in zip(a[0].tolist(), a[1].tolist()) if id in of_b)


def _weights(weights: Any) -> list[float]:
    """The weights of dense, sparse and ColBERT, checked; 1 each if none are given."""
    if weights is None:
        return [1.0, 1.0, 1.0]
    try:
        numbers = [float(weight) for weight in weights]
    except TypeError:
        raise OptionError(f"weights_for_different_modes: expected three numbers, found {weights!r}") from None
    if len(numbers) != 3 or not all(0 <= number < float("inf") for number in numbers):
        raise OptionError(f"weights_for_different_modes: found {weights!r}, expected three numbers of at least 0: dense, sparse, colbert")
    return numbers


def _mixed(dense: Any, sparse: Any, colbert: Any, weights: list[float]) -> dict[str, list[float]]:
    d, s, c = (np.float32(weight) for weight in weights)
    # As in the reference, a mean whose weights are all 0 is NaN.
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (sparse * s + dense * d) / np.float32(weights[1] + weights[0])
        all_three = (colbert * c + sparse * s + dense * d) / np.float32(sum(weights))
    named = {"colbert": colbert, "sparse": sparse, "dense": dense, "sparse+dense": both, "colbert+sparse+dense": all_three}
    return {name: values.tolist() for name, values in named.items()}


def pairs_of(sentence_pairs: Any) -> tuple[list, bool]:
    """The pairs of texts as a list, and whether the caller passed a single pair: a list or tuple that begins with a str."""
    if isinstance(sentence_pairs, str) or not hasattr(sentence_pairs, "__len__"):
        raise InputTypeError(f"expected a pair of texts or a list of pairs, found {type(sentence_pairs).__name__}")
    pairs = sentence_pairs.tolist() if hasattr(sentence_pairs, "tolist") else list(sentence_pairs)
    single = bool(pairs) and isinstance(pairs[0], str)
    if single:
        pairs = [pairs]
    for index, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)):
            raise InputTypeError(f"input {index}: expected a pair of texts, found {type(pair).__name__}", index)
        if len(pair) != 2:
            raise InputError(f"input {index}: expected a pair of texts, found {len(pair)} values", index)
        for text in pair:
            if not isinstance(text, str):
                raise InputTypeError(f"input {index}: expected a str, found {type(text).__name__}", index)
    return pairs, single


class BaseEmbedder(_Embedder):
    """FlagEmbedding's `FlagModel`, which computes only dense vectors."""

    DEFAULT_POOLING_METHOD = "cls"

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: Any = None,
        pooling_method: str = "cls",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        convert_to_numpy: bool = True,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ):
        engine = _open(model_name_or_path, cache_dir)
        options = {
            "normalize_embeddings": normalize_embeddings,
            "use_fp16": use_fp16,
            "use_bf16": use_bf16,
            "query_instruction_for_retrieval": query_instruction_for_retrieval,
            "query_instruction_format": query_instruction_format,
            "batch_size": batch_size,
            "query_max_length": query_max_length,
            "passage_max_length": passage_max_length,
            "convert_to_numpy": convert_to_numpy,
        }
        self._options(model_name_or_path, engine, devices, pooling_method, truncate_dim, options, kwargs)

    def encode(
        self,
        sentences: Any,
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        instruction: str | None = None,
        instruction_format: str | None = None,
        **kwargs: Any,
    ) -> Any:
        texts, single = self._texts(sentences, instruction, instruction_format)
        return self.encode_single_device(
            texts[0] if single else texts,
            batch_size=self.batch_size if batch_size is None else batch_size,
            max_length=self.passage_max_length if max_length is None else max_length,
            convert_to_numpy=self.convert_to_numpy if convert_to_numpy is None else convert_to_numpy,
            **kwargs,
        )

    def encode_single_device(
        self,
        sentences: Any,
        batch_size: int = 256,
        max_length: int = 512,
        convert_to_numpy: bool = True,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        refuse_unknown(kwargs, "encode")
        check_batch_size(batch_size)
        check_devices(device)
        texts, single = as_list(sentences)
        told, end = bar(len(texts), batch_size, "Inference Embeddings")
        try:
            dense: Any = self.engine.engine.encode(
                texts,
                (True, False, False),
                max_length=checked_length("max_length", max_length, self.engine),
                dimensions=self._cut(self.engine.info["dense_dim"]),
                normalize=bool(self.normalize_embeddings),
                prompt_text="",
                progress=told,
            )[0]
        finally:
            end()
        dense = dense[0] if single else dense
        if convert_to_numpy:
            return dense
        import torch

        return torch.from_numpy(dense)


BGEM3FlagModel = M3Embedder
FlagModel = BaseEmbedder
