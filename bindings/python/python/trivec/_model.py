"""`trivec.Model`: embeds texts as dense vectors, lexical weights and ColBERT vectors."""

from __future__ import annotations

import os

from ._errors import OptionError
from ._locate import resolve
from ._options import counts
from ._texts import as_list
from ._trivec import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    import numpy as np

    Progress = Callable[[int, int], object]

MODES = ("dense", "sparse", "colbert")


def parse_modes(modes: str | Iterable[str]) -> tuple[bool, bool, bool]:
    """Which of dense, sparse and colbert are in `"dense,sparse"`, `"all"` or `["dense"]`."""
    names = [name.strip() for name in modes.split(",")] if isinstance(modes, str) else list(modes)
    if names == ["all"]:
        return True, True, True
    wrong = [name for name in names if name not in MODES and name != "lexical"]
    if wrong or not names:
        found = repr(wrong[0]) if wrong else "none"
        raise OptionError(f"modes: found {found}, expected some of dense, sparse, colbert, or all")
    return "dense" in names, "sparse" in names or "lexical" in names, "colbert" in names


class Encoded:
    """The embeddings of some texts; an attribute that was not asked for is None.

    For a list of n texts, `dense` is an array [n, dim] of float32; `sparse` a list of (ids, weights), arrays of uint32 and float32 with ascending ids;
    `colbert` a list of arrays [tokens - 1, dim]; `tokens` a list of the texts' lengths in tokens; `truncated` a list of whether each text was cut. For a
    single str, each attribute is the value of that text, without the list.
    """

    __slots__ = ("dense", "sparse", "colbert", "tokens", "truncated", "_single")

    def __init__(self, dense, sparse, colbert, tokens, truncated, single: bool):
        self._single = single
        if single:
            dense = None if dense is None else dense[0]
            sparse, colbert = (None if of is None else of[0] for of in (sparse, colbert))
            tokens, truncated = tokens[0], truncated[0]
        self.dense: np.ndarray | Any = dense
        self.sparse: Any = sparse
        self.colbert: list[np.ndarray] | Any = colbert
        self.tokens: list[int] | Any = tokens
        self.truncated: list[bool] | Any = truncated

    @property
    def lexical(self) -> list[dict[int, float]] | Any:
        """`sparse` as dicts of Python's numbers: token id → weight."""
        if self.sparse is None:
            return None
        if self._single:
            return dict(zip(self.sparse[0].tolist(), self.sparse[1].tolist()))
        return [dict(zip(ids.tolist(), weights.tolist())) for ids, weights in self.sparse]

    def __len__(self) -> int:
        return 1 if self._single else len(self.tokens)

    def __repr__(self) -> str:
        parts = [name for name in MODES if getattr(self, name) is not None]
        return f"Encoded({len(self)} texts: {', '.join(parts)})"


def loaded(model: Any) -> Model:
    """`model` itself if it is a Model, else the Model that `Model(model)` loads."""
    return model if isinstance(model, Model) else Model(model)


class Model:
    """A loaded model. It never changes, and any number of threads may use it.

    `name` is a path (a packed file or a directory in Hugging Face's layout), the name of an installed model, a repository in a Hugging Face cache, or
    `"starter"`; None is the model that was installed or chosen last. Files are mapped: keep them in place while the model lives.

    A model can be pickled: by its path and options, less than a kilobyte. Forked processes may go on using it.
    """

    __slots__ = ("engine", "path", "_options", "info", "__weakref__")

    def __init__(
        self,
        name: str | os.PathLike | None = None,
        *,
        threads: int | None = None,
        isa: str | None = None,
        check_finite: bool = True,
        preload: bool = False,
        cache_dir: str | os.PathLike | None = None,
    ):
        options = {**counts(threads=threads), "isa": isa, "check_finite": check_finite, "preload": preload}
        # An absolute path is found later too, when another directory is the current one, for example after pickling.
        self._open(os.path.abspath(resolve(name, cache_dir)), options)

    def _open(self, path: str | None, options: dict, data: bytes | None = None) -> None:
        self.path = path
        self._options = options
        if data is not None:
            self.engine = Engine.from_bytes(data, **options)
        else:
            self.engine = Engine(path or "", **options)
        self.info: dict[str, Any] = self.engine.info()

    @classmethod
    def from_bytes(cls, data: bytes, *, threads: int | None = None, isa: str | None = None, check_finite: bool = True) -> Model:
        """Loads the content of a packed file, of which the model keeps a copy."""
        model = cls.__new__(cls)
        model._open(None, {**counts(threads=threads), "isa": isa, "check_finite": check_finite}, data)
        return model

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        modes: str | Iterable[str] = "dense",
        max_length: int | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        literal_specials: bool = False,
        dtype: str = "float32",
        progress: Progress | None = None,
    ) -> Encoded:
        """Embeds texts: one str, or any sequence of str. A text's result has the same bits whatever its neighbours and however many threads.

        modes: some of dense, sparse, colbert, or all. max_length: the most tokens of a text; a longer one is cut. dimensions: how many leading values of the
        dense vector are kept. normalize: whether dense vectors get the length 1; None: as the model's files say. prompt: what is put before each text;
        or prompt_name: one of the model's own prompts. literal_specials: whether `<s>` in a text is read as text. dtype: float32 or float16, of dense and
        ColBERT vectors. progress: is called with (done, all) now and then; an exception that it raises ends the call.

        Raises InputError or InputTypeError, with `.index`, for a text that cannot be embedded; OptionError; ModeUnavailable. KeyboardInterrupt ends the
        call within a layer of the model.
        """
        if dtype not in ("float32", "float16"):
            raise OptionError(f"dtype: found {dtype!r}, expected 'float32' or 'float16'")
        if prompt_name is not None and prompt_name not in self.info["prompts"]:
            raise OptionError(f"prompt_name: found {prompt_name!r}, expected one of {sorted(self.info['prompts'])}")
        items, single = as_list(texts)
        dense, sparse, colbert, tokens, truncated = self.engine.encode(
            items,
            parse_modes(modes),
            **counts(max_length=max_length, dimensions=dimensions),
            normalize=normalize,
            prompt_text=prompt,
            prompt_name=prompt_name,
            literal_specials=literal_specials,
            progress=progress,
        )
        if dtype == "float16":
            dense = None if dense is None else dense.astype("float16")
            colbert = None if colbert is None else [rows.astype("float16") for rows in colbert]
        return Encoded(dense, sparse, colbert, tokens, truncated, single)

    def encode_ids(
        self,
        ids: Sequence[Sequence[int]],
        *,
        modes: str | Iterable[str] = "dense",
        dimensions: int | None = None,
        normalize: bool | None = None,
    ) -> Encoded:
        """Embeds sequences of token ids, each complete with its special tokens and its prompt."""
        results = self.engine.encode_ids(ids, parse_modes(modes), **counts(dimensions=dimensions), normalize=normalize)
        return Encoded(*results, False)

    def token_ids(self, texts: str | Sequence[str], *, max_length: int | None = None, literal_specials: bool = False) -> list:
        """The token ids of a text, or of each text of a sequence: special tokens included, cut as `encode` cuts texts."""
        items, single = as_list(texts)
        ids, _ = self.engine.token_ids(items, **counts(max_length=max_length), literal_specials=literal_specials)
        return ids[0] if single else ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of token ids."""
        return self.engine.decode(ids, skip_special=skip_special)

    def piece(self, id: int) -> str | None:
        """The vocabulary's piece of a token id; None if there is no such id."""
        return self.engine.piece(id)

    def __reduce__(self):
        if self.path is None:
            raise TypeError("a model of bytes cannot be pickled: save them to a file and load that, and every process finds it by its path")
        return (_restore, (type(self), self.path, self._options, fingerprint(self.path)))

    def __repr__(self) -> str:
        return f"Model({self.info['name']!r}, modes={self.info['modes']}, {self.info['weights']}, {self.info['threads']} threads)"


def _restore(cls: type[Model], path: str, options: dict, expected: str) -> Model:
    if not os.path.exists(path):
        import errno

        raise FileNotFoundError(errno.ENOENT, "the model that was pickled is not here: its file has to be in the same place", path)
    found = fingerprint(path)
    if found != expected:
        from ._errors import ModelError

        raise ModelError(f"{path}: another model than the one that was pickled is there")
    model = cls.__new__(cls)
    model._open(path, options)
    return model


def fingerprint(path: str) -> str:
    """Identifies a model's files without reading all of them: for a packed file, a digest of its length and its beginning, which names every tensor; for a
    directory, a digest of the names and lengths of its files."""
    import hashlib

    digest = hashlib.sha256()
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            file = os.path.join(path, name)
            if os.path.isfile(file):
                digest.update(f"{name}\0{os.path.getsize(file)}\0".encode("utf-8", "surrogateescape"))
    else:
        digest.update(str(os.path.getsize(path)).encode())
        with open(path, "rb") as packed:
            digest.update(packed.read(1 << 16))
    return digest.hexdigest()
