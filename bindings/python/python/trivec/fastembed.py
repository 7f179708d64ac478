"""Classes with fastembed's methods, which generate arrays in the order of the documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ._model import Model
from ._reranker import Reranker
from ._texts import listed


class SparseEmbedding:
    """Lexical weights as two arrays: ascending token ids (`indices`) and the weights (`values`)."""

    __slots__ = ("values", "indices")

    def __init__(self, values: np.ndarray, indices: np.ndarray):
        self.values, self.indices = values, indices

    def as_object(self) -> dict[str, np.ndarray]:
        return {"values": self.values, "indices": self.indices}

    def as_dict(self) -> dict[int, float]:
        return dict(zip(self.indices.tolist(), self.values.tolist()))


class _Embedding:
    _mode = "dense"

    def __init__(self, model_name: str | Model | None = None, cache_dir: str | None = None, threads: int | None = None, **_: Any):
        self.model = model_name if isinstance(model_name, Model) else Model(model_name, cache_dir=cache_dir, threads=threads)

    def embed(self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None, **_: Any) -> Iterator[Any]:
        """Generates the embeddings of one text or of any iterable of texts, which is read `batch_size` texts at a time."""
        rest = iter([documents] if isinstance(documents, str) else documents)
        while batch := list(islice(rest, batch_size)):
            encoded = self.model.encode(batch, modes=self._mode)
            yield from self._each(encoded)

    def _each(self, encoded: Any) -> Iterator[Any]:
        return iter(encoded.dense)

    def query_embed(self, query: str | Iterable[str], **options: Any) -> Iterator[Any]:
        return self.embed(query, **options)

    def passage_embed(self, texts: Iterable[str], **options: Any) -> Iterator[Any]:
        return self.embed(texts, **options)

    def token_count(self, texts: str | Iterable[str]) -> int:
        return sum(map(len, self.model.token_ids([texts] if isinstance(texts, str) else list(texts))))


class TextEmbedding(_Embedding):
    """Embeds texts as dense vectors."""

    @property
    def embedding_size(self) -> int:
        return self.model.info["dense_dim"]


class SparseTextEmbedding(_Embedding):
    """Embeds texts as lexical weights."""

    _mode = "sparse"

    def _each(self, encoded: Any) -> Iterator[Any]:
        return (SparseEmbedding(weights, ids.astype(np.int64)) for ids, weights in encoded.sparse)


class LateInteractionTextEmbedding(_Embedding):
    """Embeds texts as ColBERT vectors."""

    _mode = "colbert"

    @property
    def embedding_size(self) -> int:
        return self.model.info["colbert_dim"]

    def _each(self, encoded: Any) -> Iterator[Any]:
        return iter(encoded.colbert)


class TextCrossEncoder:
    """Gives the logits of documents for a query."""

    def __init__(self, model_name: str | Reranker | None = None, cache_dir: str | None = None, threads: int | None = None, **_: Any):
        self.model = model_name if isinstance(model_name, Reranker) else Reranker(model_name, cache_dir=cache_dir, threads=threads)

    def rerank(self, query: str, documents: Iterable[str], batch_size: int = 64, **_: Any) -> Iterator[float]:
        return iter(self.model.score([(query, document) for document in listed(documents)])[0].tolist())

    def rerank_pairs(self, pairs: Iterable[tuple[str, str]], batch_size: int = 64, **_: Any) -> Iterator[float]:
        return iter(self.model.score(list(pairs))[0].tolist())
