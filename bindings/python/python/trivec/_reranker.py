"""`trivec.Reranker`: scores how well documents answer a query."""

from __future__ import annotations

from ._errors import ModeUnavailable
from ._model import Model
from ._options import counts
from ._texts import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np


class Reranked:
    """A document with its index in the call, its logit, and its score: the logit's sigmoid, or the logit itself if the model's files say Identity."""

    __slots__ = ("index", "score", "logit", "document")

    def __init__(self, index: int, score: float, logit: float, document: str):
        self.index, self.score, self.logit, self.document = index, score, logit, document

    def __repr__(self) -> str:
        return f"Reranked(index={self.index}, score={self.score:.4f})"


class Reranker(Model):
    """A loaded reranker. The arguments are those of `Model`."""

    __slots__ = ()

    def _open(self, path: str | None, options: dict, data: bytes | None = None) -> None:
        super()._open(path, options, data)
        if not self.info["rerank"]:
            raise ModeUnavailable(f"{self.info['name']}: the model is an embedder, not a reranker")

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        max_length: int | None = None,
        max_query: int | None = None,
        max_document: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The logits and the scores of (query, document) pairs, float32, in their order.

        max_length: the most tokens of a pair, 512 if it is not given. max_query, max_document: the most tokens of each of the two.
        """
        logits, scores, _, _ = self.engine.rerank(
            list(pairs), **counts(max_length=max_length, max_query=max_query, max_document=max_document), progress=progress
        )
        return logits, scores

    def rerank(self, query: str, documents: Sequence[str], *, top: int | None = None, max_length: int | None = None) -> list[Reranked]:
        """The documents in the order of how well they answer the query, best first; equal ones stay in their order. `top` is how many are returned."""
        documents, top = listed(documents), counts(top=top)["top"]
        logits, scores = self.score([(query, document) for document in documents], max_length=max_length)
        order = sorted(range(len(documents)), key=lambda at: (-float(logits[at]), at))
        return [Reranked(at, float(scores[at]), float(logits[at]), documents[at]) for at in order[:top]]
