"""`trivec.Index`: an index of documents on disk, which are found by their words, dense vectors, lexical weights and ColBERT vectors."""

from __future__ import annotations

import json
import os

from ._errors import InputError, InputTypeError, OptionError
from ._model import loaded
from ._options import counts
from ._trivec import Index as _Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ._model import Model

# The fields of a document that are not metadata.
OWN = ("key", "text", "title", "lang", "document")


def _document(document: Mapping[str, Any] | tuple[str, str], place: int) -> dict[str, Any]:
    if isinstance(document, tuple) and len(document) == 2:
        document = {"key": document[0], "text": document[1]}
    if not hasattr(document, "keys"):
        raise OptionError(f"document {place}: expected a dict with key and text, or a pair of them, found {type(document).__name__}")
    own = {name: document[name] for name in OWN if document.get(name) is not None}
    metadata = dict(document.get("metadata") or {})
    metadata.update((name, value) for name, value in document.items() if name not in OWN and name != "metadata")
    if "key" not in own or "text" not in own:
        raise OptionError(f"document {place}: it has no {'key' if 'key' not in own else 'text'}")
    for name, value in own.items():
        if name in ("key", "text", "title", "lang") and not isinstance(value, str):
            raise InputTypeError(f"document {place}: `{name}` is {type(value).__name__}, expected a str", place)
    return {**own, "metadata": metadata}


class Hits(list):
    """The hits of a search: a list of dicts, best first. Its attributes describe the search as a whole.

    query_truncated: whether the query is longer than the index's maximum length, so that its vectors are of its beginning alone. searched: how many
    entries (documents, and each chunk of those that were cut) the filter let through. in_chunks: whether the index has documents in chunks; if not,
    every entry is a document. candidates: how many entries the arms gave. best_share: the best BM25 score as a part of the highest that is possible,
    near 0 if the documents are in another language. words: the query's words and how many entries have each; words_dropped: how many more words were
    not looked up. languages: those that the query may be in. timings: in milliseconds.
    """

    __slots__ = ("query_truncated", "searched", "in_chunks", "candidates", "best_share", "words", "words_dropped", "languages", "timings")

    def __init__(self, found: Mapping[str, Any]):
        super().__init__(found["hits"])
        for name in self.__slots__:
            setattr(self, name, found[name])


def _line(document: Any, place: int) -> str:
    """A document as JSON."""
    try:
        line = json.dumps(_document(document, place), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        if isinstance(error, (InputError, InputTypeError, OptionError)):
            raise
        raise OptionError(f"document {place}: {error}") from None
    if not _is_unicode(line):
        raise InputError(f"document {place}: it is not Unicode text: it has a lone surrogate", place)
    return line


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Index:
    """An index on disk with the model that made its vectors. Any number of processes may search it while one changes it.

    With `create`, an index is made if there is none. colbert: how many bits the values of stored ColBERT vectors have ("8", "4", "2", "1", "off"; "4"
    if it is not given). language: the language of documents without one of their own. max_length: the most tokens of a document or a query. An index
    that exists keeps the options that it was made with: if another value is given here, this is an OptionError.
    """

    __slots__ = ("_index", "model")

    def __init__(
        self,
        directory: str | os.PathLike,
        model: Model | str | os.PathLike | None,
        *,
        create: bool = False,
        colbert: str | int | None = None,
        language: str | None = None,
        max_length: int | None = None,
    ):
        self.model = loaded(model)
        bits = None if colbert is None else str(colbert)
        self._index = _Index.open(
            os.fspath(directory), self.model.engine, create=create, colbert=bits, language=language, **counts(max_length=max_length)
        )

    def add(self, documents: Iterable[Mapping[str, Any] | tuple[str, str]]) -> int:
        """Adds documents; each replaces the one that has its key. A document is a dict with `key` and `text`, and optionally `title`, `lang` and any
        other fields, by which searches can filter; or a tuple (key, text). When the call returns, all of them are on disk and can be found; after an
        exception, none is. Returns how many were added."""
        made = [_line(document, place) for place, document in enumerate(documents)]
        return self._index.change("[" + ",".join(made) + "]")[0]

    def delete(self, *keys: str) -> None:
        """Deletes documents by their keys; a key that no document has is no error."""
        self._index.change("[]", list(keys))

    def search(
        self,
        query: str,
        *,
        top: int = 10,
        filter: str | None = None,
        lang: str | None = None,
        arms: str | None = None,
        rerank: int | None = None,
        explain: bool = False,
    ) -> Hits:
        """Finds the `top` best documents, best first: dicts with rank, score and document, and with `explain` an explanation of each.

        filter: such as `year < 2022 and lang = "en"`. lang: the language of the query. arms: the lists that are fused, some of dense, bm25, sparse. rerank:
        how many of the best are reordered by ColBERT.
        """
        if isinstance(query, str) and not _is_unicode(query):
            raise InputError("the query is not Unicode text: it has a lone surrogate")
        hits = self._index.search(query, **counts(top=top, rerank=rerank), filter=filter, lang=lang, arms=arms, explain=explain)
        return Hits(json.loads(hits))

    def get(self, key: str) -> dict[str, Any]:
        """The document with this key; if it was cut into chunks, a dict with its `key` and its `chunks`. Raises NoDocument if there is none."""
        return json.loads(self._index.get(key))

    def stats(self) -> dict[str, Any]:
        """Statistics of the index: how it was made, what it has, and how large it is."""
        return json.loads(self._index.stats())

    def compact(self, *, all: bool = False) -> int:
        """Gives back the space of deleted documents; with `all`, of every one. Returns how many segments were rewritten."""
        return self._index.compact(all)

    def __len__(self) -> int:
        return self.stats()["documents"]
