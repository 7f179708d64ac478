"""LlamaIndex: `TrivecEmbedding`, `TrivecSparseEmbedding` and `TrivecRerank` (a node postprocessor)."""

from __future__ import annotations

from typing import Any, ClassVar

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from .. import Model, Reranker


class _Holder:
    mode: ClassVar[str] = "dense"
    _model: Model

    def __init__(self, model: Any = None, **options: Any):
        super().__init__(**options)
        self._model = model if isinstance(model, Model) else Model(model)

    def _all(self, texts: Any) -> Any:
        encoded = self._model.encode(texts, modes=self.mode)
        return encoded.dense.tolist() if self.mode == "dense" else encoded.lexical

    def _get_query_embedding(self, query: str) -> Any:
        return self._all(query)

    async def _aget_query_embedding(self, query: str) -> Any:
        return self._all(query)

    def _get_text_embedding(self, text: str) -> Any:
        return self._all(text)

    async def _aget_text_embedding(self, text: str) -> Any:
        return self._all(text)

    def _get_text_embeddings(self, texts: list[str]) -> Any:
        return self._all(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> Any:
        return self._all(texts)


class TrivecEmbedding(_Holder, BaseEmbedding):
    """Embeds texts as dense vectors."""

    _model: Model = PrivateAttr()


class TrivecSparseEmbedding(_Holder, BaseSparseEmbedding):
    """Embeds texts as lexical weights by token id."""

    mode: ClassVar[str] = "sparse"
    _model: Model = PrivateAttr()


class TrivecRerank(BaseNodePostprocessor):
    """Keeps the `top_n` nodes that answer the query best."""

    top_n: int = 3
    _model: Reranker = PrivateAttr()

    def __init__(self, model: Any, **options: Any):
        super().__init__(**options)
        self._model = model if isinstance(model, Reranker) else Reranker(model)

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a query is needed to rerank nodes")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        ranked = self._model.rerank(query_bundle.query_str, texts, top=self.top_n)
        return [NodeWithScore(node=nodes[one.index].node, score=one.score) for one in ranked]
