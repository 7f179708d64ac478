"""`trivec.train`: adapts a model's three heads to pairs of texts."""

from __future__ import annotations

import os

from ._errors import InputError, InputTypeError, OptionError
from ._model import loaded, parse_modes
from ._options import counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from ._model import Model

    Path = str | os.PathLike[str]
    Pairs = Path | Iterable[Mapping[str, Any] | tuple[str, str]]


def _source(pairs: Pairs, name: str) -> Any:
    """Pairs for the native function: a path as it is, other pairs as (name, JSON Lines), where errors show the name."""
    import json

    if isinstance(pairs, (str, os.PathLike)):
        return pairs
    if isinstance(pairs, (bytes, bytearray)) or not hasattr(pairs, "__iter__"):
        raise InputTypeError(f"{name}: expected a path or pairs of texts, found {type(pairs).__name__}")
    lines = []
    for index, pair in enumerate(pairs):
        if isinstance(pair, (tuple, list)) and len(pair) == 2:
            pair = {"query": pair[0], "passage": pair[1]}
        if not hasattr(pair, "keys"):
            found = type(pair).__name__
            raise InputTypeError(f"{name}, pair {index}: expected a dict with query and passage, or a tuple of them, found {found}", index)
        try:
            line = json.dumps(dict(pair), ensure_ascii=False, allow_nan=False)
            line.encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}, pair {index}: {error}", index) from None
        lines.append(line)
    return name, "\n".join(lines)


def _three(name: str, values: Sequence[float]) -> list[float]:
    found = [float(value) for value in values]
    if len(found) != 3:
        raise OptionError(f"{name}: {len(found)} numbers, expected 3: dense, sparse, colbert")
    return found


def train(
    model: Model | Path | None,
    pairs: Pairs,
    output: Path,
    *,
    documents: Iterable[Path] = (),
    dev: Pairs | None = None,
    evals: Mapping[str, Pairs] | None = None,
    work: Path | None = None,
    force: bool = False,
    heads: str | Iterable[str] = "all",
    epochs: int = 2,
    batch: int = 128,
    negatives: int = 1,
    temperature: float = 0.02,
    lr: float = 1e-3,
    lr_sparse: float = 3e-3,
    teacher_weights: Sequence[float] = (1.0, 0.3, 1.0),
    lambdas: Sequence[float] | None = None,
    paper: bool = False,
    distill: bool = True,
    distill_from: int = 0,
    start: str = "current",
    seed: int = 0,
    max_query: int = 48,
    max_passage: int = 96,
    allow_overlap: bool = False,
    threads: int | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> dict[str, Any]:
    """Adapts a model's dense, sparse and ColBERT head to pairs of texts, writes the model to `output`, and returns the report. This is the field `report`
    of what `trivec train --json` prints; its `dev` and `evals` have the figures before and after. See docs/training.md for the method and the options.

    pairs: a file or a directory, as for `trivec train --pairs`; or dicts with `query`, `passage` and optionally `negatives`, `group`, `score`; or
    (query, passage) tuples. documents: files of documents without labels. dev: pairs by which the best epoch is chosen; None: a part of `pairs`. evals:
    sets by name, which are measured before and after. output: becomes a packed file if the model is one, else a directory. work: a directory for
    states and checkpoints, which stays; None: one next to the output, which is removed at the end. The same call resumes a run that was ended, and gives
    the same bytes. progress: is called with ("states" or "steps", done, all); an exception that it raises ends the run, as Ctrl-C does.

    Raises InputError, with `.index`, for a pair that cannot be used; OptionError; TrainingLocked; ModelError; OSError.
    """
    import json

    from ._trivec import train as native

    report = native(
        loaded(model).engine,
        [_source(pairs, "pairs")],
        os.fspath(output),
        documents=[os.fspath(path) for path in documents],
        dev=None if dev is None else _source(dev, "dev"),
        evals=[(name, _source(of, name)) for name, of in (evals or {}).items()],
        work=None if work is None else os.fspath(work),
        force=force,
        heads=parse_modes(heads),
        **counts(
            epochs=epochs,
            batch=batch,
            negatives=negatives,
            distill_from=distill_from,
            seed=seed,
            max_query=max_query,
            max_passage=max_passage,
            threads=threads,
        ),
        temperature=temperature,
        lr=lr,
        lr_sparse=lr_sparse,
        teacher_weights=_three("teacher_weights", teacher_weights),
        lambdas=None if lambdas is None else _three("lambdas", lambdas),
        paper=paper,
        distill=distill,
        start=start,
        allow_overlap=allow_overlap,
        progress=progress,
    )
    return json.loads(report)
