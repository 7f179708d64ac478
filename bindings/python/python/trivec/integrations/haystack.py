"""Haystack: `TrivecTextEmbedder`, `TrivecDocumentEmbedder` and `TrivecRanker`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from .. import Model, Reranker


class _Component:
    def __init__(self, model: str | None = None, **options: Any):
        self.model, self.options, self._loaded = model, options, None

    def warm_up(self) -> None:
        self._loaded = self._loaded or self._kind(self.model)

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(self, model=self.model, **self.options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        return default_from_dict(cls, data)


@component
class TrivecTextEmbedder(_Component):
    """Embeds a text as a dense vector. Options are those of `trivec.Model.encode`."""

    _kind = Model

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        self.warm_up()
        return {"embedding": self._loaded.encode(text, **self.options).dense.tolist()}


@component
class TrivecDocumentEmbedder(_Component):
    """Gives documents their dense vectors. Options are those of `trivec.Model.encode`."""

    _kind = Model

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        self.warm_up()
        vectors = self._loaded.encode([document.content or "" for document in documents], **self.options).dense
        return {"documents": [replace(document, embedding=vector.tolist()) for document, vector in zip(documents, vectors)]}


@component
class TrivecRanker(_Component):
    """Ranks documents by how well they answer a query, and gives them their scores. Option: `top_k`, how many are kept."""

    _kind = Reranker

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document]) -> dict[str, Any]:
        self.warm_up()
        ranked = self._loaded.rerank(query, [document.content or "" for document in documents], top=self.options.get("top_k"))
        return {"documents": [replace(documents[one.index], score=one.score) for one in ranked]}
