"""Models for asyncio. Their calls are made one after another on a thread of their own, so that the event loop is not blocked; at most `queue` calls are
handed to that thread at a time.

>>> async def main():
...     async with trivec.aio.Model("starter") as model:
...         return (await model.encode(["a text"])).dense
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from . import _model, _reranker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Async:
    _kind: Any

    def __init__(self, model: Any = None, *, queue: int = 64, **options: Any):
        self.model: Any = model if isinstance(model, _model.Model) else self._kind(model, **options)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trivec-aio")
        self._places = asyncio.Semaphore(queue)
        self._waiting = 0

    @property
    def queue_depth(self) -> int:
        """How many calls wait or are computed."""
        return self._waiting

    async def _call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        self._waiting += 1
        try:
            async with self._places:
                loop = asyncio.get_running_loop()
                ended = asyncio.Event()
                progress = keywords.get("progress")

                def told(done: int, total: int) -> Any:
                    # Nobody awaits the call any more, so it ends after this batch.
                    if ended.is_set():
                        raise _model_cancelled()
                    return None if progress is None else progress(done, total)

                keywords["progress"] = told
                try:
                    return await loop.run_in_executor(self._worker, lambda: function(*arguments, **keywords))
                finally:
                    ended.set()
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread when the call that is being computed is done. Calls that have not begun are cancelled."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _model_cancelled() -> Exception:
    from ._errors import Cancelled

    return Cancelled("nobody waits for the call any more")


class Model(_Async):
    """`trivec.Model` with a call that is awaited."""

    _kind = _model.Model

    async def encode(self, texts: Any, **options: Any) -> _model.Encoded:
        """As `trivec.Model.encode`."""
        return await self._call(self.model.encode, texts, **options)


class Reranker(_Async):
    """`trivec.Reranker` with a call that is awaited."""

    _kind = _reranker.Reranker

    async def score(self, pairs: Any, **options: Any) -> Any:
        """As `trivec.Reranker.score`."""
        return await self._call(self.model.score, pairs, **options)
