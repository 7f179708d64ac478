"""The native module. Programs use the classes of `trivec`, which wrap it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__version__: str

_Floats = npt.NDArray[np.float32]
_Modes = tuple[bool, bool, bool]
_Results = tuple[_Floats | None, list[tuple[npt.NDArray[np.uint32], _Floats]] | None, list[_Floats] | None, list[int], list[bool]]

class Engine:
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        isa: str | None = None,
        check_finite: bool = True,
        preload: bool = False,
    ) -> None: ...
    @staticmethod
    def from_bytes(data: bytes, *, threads: int | None = None, isa: str | None = None, check_finite: bool = True) -> Engine: ...
    def info(self) -> dict[str, Any]: ...
    def encode(
        self,
        texts: Sequence[str],
        modes: _Modes,
        *,
        max_length: int | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        colbert_dimensions: int | None = None,
        colbert_raw: bool = False,
        literal_specials: bool = False,
        prompt_text: str | None = None,
        prompt_name: str | None = None,
        in_order: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> _Results: ...
    def encode_ids(
        self, ids: Sequence[Sequence[int]], modes: _Modes, *, dimensions: int | None = None, normalize: bool | None = None
    ) -> _Results: ...
    def rerank(
        self,
        pairs: Sequence[Sequence[str]],
        *,
        max_length: int | None = None,
        max_query: int | None = None,
        max_document: int | None = None,
        literal_specials: bool = False,
        prompt_text: str | None = None,
        prompt_name: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> tuple[_Floats, _Floats, list[int], list[bool]]: ...
    def token_ids(
        self,
        texts: Sequence[str],
        *,
        max_length: int | None = None,
        literal_specials: bool = False,
        prompt_text: str | None = None,
        prompt_name: str | None = None,
    ) -> tuple[list[list[int]], list[bool]]: ...
    def piece(self, id: int) -> str | None: ...
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str: ...

class Index:
    @staticmethod
    def open(
        directory: str | os.PathLike[str],
        engine: Engine,
        *,
        create: bool = False,
        colbert: str | None = None,
        language: str | None = None,
        languages: Sequence[str] | None = None,
        max_length: int | None = None,
        document_prompt: str | None = None,
        query_prompt: str | None = None,
    ) -> Index: ...
    def change(self, documents_json: str, keys: Sequence[str] = ()) -> tuple[int, int]: ...
    def search(
        self,
        text: str,
        *,
        top: int = 10,
        filter: str | None = None,
        lang: str | None = None,
        arms: str | None = None,
        rerank: int | None = None,
        explain: bool = False,
    ) -> str: ...
    def get(self, key: str) -> str: ...
    def stats(self) -> str: ...
    def compact(self, all: bool = False) -> int: ...

_Source = str | os.PathLike[str] | tuple[str, str]

def train(
    engine: Engine,
    pairs: Sequence[_Source],
    output: str | os.PathLike[str],
    *,
    documents: Sequence[str | os.PathLike[str]],
    dev: _Source | None,
    evals: Sequence[tuple[str, _Source]],
    work: str | os.PathLike[str] | None,
    force: bool,
    heads: _Modes,
    epochs: int,
    batch: int,
    negatives: int,
    temperature: float,
    lr: float,
    lr_sparse: float,
    teacher_weights: Sequence[float],
    lambdas: Sequence[float] | None,
    paper: bool,
    distill: bool,
    distill_from: int,
    start: str,
    seed: int,
    max_query: int,
    max_passage: int,
    allow_overlap: bool,
    threads: int | None,
    progress: Callable[[str, int, int], object] | None,
) -> str: ...
def colbert_score(query: _Floats, document: _Floats) -> float: ...
def locate(name: str | os.PathLike[str]) -> os.PathLike[str] | None: ...
def locate_default() -> os.PathLike[str] | None: ...
def instruction_sets() -> list[str]: ...
