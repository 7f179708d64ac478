"""LangChain: `TrivecEmbeddings` and `TrivecReranker` (a document compressor)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict

from .. import Model, Reranker


class TrivecEmbeddings(Embeddings):
    """Embeds texts as dense vectors with a `trivec.Model`, or with the model of a name or path. Options are those of `trivec.Model.encode`."""

    def __init__(self, model: Any = None, *, query_prompt: str | None = None, document_prompt: str | None = None, **options: Any):
        self.model = model if isinstance(model, Model) else Model(model)
        self.query_prompt, self.document_prompt, self.options = query_prompt, document_prompt, options

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.model.encode(texts, prompt=self.document_prompt, **self.options).dense.tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.model.encode(text, prompt=self.query_prompt, **self.options).dense.tolist()


class TrivecReranker(BaseDocumentCompressor):
    """Keeps the `top_n` documents that answer the query best; their metadata gets `relevance_score`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    model: Reranker
    top_n: int = 3

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> Sequence[Document]:
        ranked = self.model.rerank(query, [document.page_content for document in documents], top=self.top_n)
        scored = [(documents[one.index], one.score) for one in ranked]
        return [Document(d.page_content, id=d.id, metadata={**d.metadata, "relevance_score": score}) for d, score in scored]
