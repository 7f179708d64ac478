"""Classes with the methods of sentence-transformers, without torch: `SentenceEncoder` like their `SentenceTransformer`, and `CrossEncoder`.

With torch and sentence-transformers installed, `trivec.st.TrivecTransformer` is a module for their own classes, with all of their features.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ._errors import OptionError
from ._model import Model
from ._reranker import Reranker
from ._texts import as_list, listed


class SentenceEncoder:
    """`encode`, `encode_query`, `encode_document` and `similarity` of a SentenceTransformer."""

    def __init__(
        self,
        model: str | os.PathLike | Model | None = None,
        *,
        prompts: dict[str, str] | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ):
        self.model = model if isinstance(model, Model) else Model(model, **options)
        self.prompts = {**self.model.info["prompts"], **(prompts or {})}
        self.truncate_dim = truncate_dim
        self.max_seq_length = self.model.info["max_length"]

    def get_embedding_dimension(self) -> int:
        return self.truncate_dim or self.model.info["dense_dim"]

    get_sentence_embedding_dimension = get_embedding_dimension

    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        precision: str = "float32",
        **unsupported: Any,
    ) -> Any:
        """Embeds texts: returns an array [n, dim], or [dim] for a single str; with convert_to_numpy=False a list of arrays."""
        for name, value in unsupported.items():
            if value not in (None, False) and name not in ("device", "chunk_size"):
                raise OptionError(f"{name}={value!r}: trivec.st.TrivecTransformer in sentence-transformers' own class has it, this class has not")
        if precision != "float32":
            raise OptionError(f"precision: found {precision!r}, expected 'float32': sentence-transformers' quantize_embeddings makes others")
        if prompt is None and prompt_name is not None:
            if prompt_name not in self.prompts:
                raise OptionError(f"prompt_name: found {prompt_name!r}, expected one of {sorted(self.prompts)}")
            prompt = self.prompts[prompt_name]
        texts, single = as_list(inputs)
        if not len(texts):
            return np.array([])
        dim = truncate_dim or self.truncate_dim
        # As sentence-transformers do it: a vector that is cut is normalised again only if normalize_embeddings asks for it.
        vectors = self.model.encode(texts, prompt=prompt, normalize=True if normalize_embeddings and not dim else None).dense
        if dim:
            vectors = vectors[:, :dim]
            if normalize_embeddings:
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        if single:
            return vectors[0]
        return vectors if convert_to_numpy else list(vectors)

    def _encode_as(self, kind: str, inputs: Any, options: dict[str, Any]) -> Any:
        if options.get("prompt") is None and options.get("prompt_name") is None and kind in self.prompts:
            options["prompt_name"] = kind
        return self.encode(inputs, **options)

    def encode_query(self, inputs: Any, **options: Any) -> Any:
        """`encode` with the model's prompt `query`, if it has one."""
        return self._encode_as("query", inputs, options)

    def encode_document(self, inputs: Any, **options: Any) -> Any:
        """`encode` with the model's prompt `document`, if it has one."""
        return self._encode_as("document", inputs, options)

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Cosines of all pairs of rows."""

        def unit(vectors: Any) -> np.ndarray:
            vectors = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
            return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

        return unit(a) @ unit(b).T


class CrossEncoder:
    """`predict` and `rank` of a CrossEncoder."""

    def __init__(self, model: str | os.PathLike | Reranker | None = None, *, max_length: int | None = None, **options: Any):
        self.model = model if isinstance(model, Reranker) else Reranker(model, **options)
        # As in sentence-transformers, the default is the longest input of the model.
        self.max_length = max_length or self.model.info["max_length"]

    def predict(self, inputs: Any, batch_size: int = 32, activation_fn: Any = None, convert_to_numpy: bool = True, **unsupported: Any) -> Any:
        """Scores (query, document) pairs, in float32: sigmoids of the logits, or the logits if the model's files say Identity; a single number for one
        pair. `activation_fn`, if it is given, is applied to the logits instead."""
        for name, value in unsupported.items():
            if value not in (None, False) and name not in ("show_progress_bar",):
                raise OptionError(f"{name}={value!r} is not taken")
        pairs = list(inputs)
        single = bool(pairs) and isinstance(pairs[0], str)
        logits, scores = self.model.score([tuple(pairs)] if single else pairs, max_length=self.max_length)
        if activation_fn is not None:
            scores = np.asarray(activation_fn(logits), dtype=np.float32)
        if single:
            return scores[0]
        return scores if convert_to_numpy else list(scores)

    def rank(self, query: str, documents: Any, top_k: int | None = None, return_documents: bool = False, **options: Any) -> list[dict[str, Any]]:
        """The documents, best first: dicts of corpus_id and score, and text if it is asked for."""
        documents = listed(documents)
        scores = self.predict([(query, document) for document in documents], **options)
        order = sorted(range(len(documents)), key=lambda at: (-scores[at], at))[:top_k]
        return [{"corpus_id": at, "score": scores[at], **({"text": documents[at]} if return_documents else {})} for at in order]
