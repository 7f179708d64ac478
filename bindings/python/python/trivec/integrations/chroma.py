"""Chroma: `TrivecEmbeddingFunction` and `TrivecSparseEmbeddingFunction`."""

from __future__ import annotations

from typing import Any

from chromadb.api.types import EmbeddingFunction, SparseEmbeddingFunction, SparseVector
from chromadb.utils.embedding_functions import register_embedding_function, register_sparse_embedding_function

from .. import Model


class _Function:
    def __init__(self, model: str | None = None):
        self.model, self._loaded = model, Model(model)

    def get_config(self) -> dict[str, Any]:
        return {"model": self.model}

    @classmethod
    def build_from_config(cls, config: dict[str, Any]) -> Any:
        return cls(config["model"])


@register_embedding_function
class TrivecEmbeddingFunction(_Function, EmbeddingFunction):
    """Embeds texts as dense vectors."""

    def __call__(self, input: Any) -> list[Any]:
        return list(self._loaded.encode(list(input)).dense)

    @staticmethod
    def name() -> str:
        return "trivec"

    def default_space(self) -> str:
        return "cosine"


@register_sparse_embedding_function
class TrivecSparseEmbeddingFunction(_Function, SparseEmbeddingFunction):
    """Embeds texts as lexical weights by token id."""

    def __call__(self, input: Any) -> list[Any]:
        sparse = self._loaded.encode(list(input), modes="sparse").sparse
        return [SparseVector(indices=ids.tolist(), values=weights.tolist()) for ids, weights in sparse]

    @staticmethod
    def name() -> str:
        return "trivec_sparse"
