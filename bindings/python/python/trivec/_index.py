"""`trivec.Index`: documents on disk, found by their words, dense vectors, lexical weights and ColBERT vectors."""

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

# The fields of a document that are no metadata.
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
    """What a search found: a list of dicts, best first, with what is said of the search as a whole.

    query_truncated: whether the question is longer than the index's maximum length, so that its vectors are of its beginning alone. searched:
    entries (documents, and each chunk of those that were cut) that the filter let through. in_chunks: whether the index has documents in
    chunks; if not, an entry is a document. candidates: entries that an arm gave. best_share: the largest share of the highest BM25 score
    there can be, near 0 where the documents are in another language. words: the question's words and how many entries have each;
    words_dropped: how many more were not looked up. languages: those that the question may be in. timings: in milliseconds.
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

    With `create`, an index is made where there is none: colbert is how many bits the values of stored ColBERT vectors have ("8", "4", "2", "1",
    "off"; "4" if it is not given); language that of documents that do not say theirs. An index that is there keeps what it was made with: an
    option that says otherwise is an OptionError.
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
        """Adds documents, each in the place of the one that has its key: dicts with `key` and `text`, and `title`, `lang` and anything else, by
        which they can be filtered; or (key, text). Visible and safe when it returns: all of them, or after an exception none. How many."""
        made = [_line(document, place) for place, document in enumerate(documents)]
        return self._index.change("[" + ",".join(made) + "]")[0]

    def delete(self, *keys: str) -> None:
        """Deletes documents by their keys; one that no document has is no error."""
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
        """The best documents, best first: dicts with rank, score, document, and with `explain` what explains each.

        filter: as `year < 2022 and lang = "en"`. arms: which lists are made, of dense, bm25, sparse. rerank: how many are put in the order of their
        ColBERT scores.
        """
        if isinstance(query, str) and not _is_unicode(query):
            raise InputError("the query is not Unicode text: it has a lone surrogate")
        hits = self._index.search(query, **counts(top=top, rerank=rerank), filter=filter, lang=lang, arms=arms, explain=explain)
        return Hits(json.loads(hits))

    def get(self, key: str) -> dict[str, Any]:
        """The document of a key; of one that was cut into chunks, a dict of its `key` and its `chunks`. NoDocument if there is none."""
        return json.loads(self._index.get(key))

    def stats(self) -> dict[str, Any]:
        """What the index is and how large."""
        return json.loads(self._index.stats())

    def compact(self, *, all: bool = False) -> int:
        """Gives back the space of what was deleted."""
        return self._index.compact(all)

    def __len__(self) -> int:
        return self.stats()["documents"]
