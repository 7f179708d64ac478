"""Makes lists of what callers pass as texts."""

from __future__ import annotations

from ._errors import InputTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def listed(documents: Iterable[str]) -> list[str]:
    """The documents of a query as a list. A single str is refused, because a list of it would be its characters."""
    if isinstance(documents, (str, bytes)):
        raise InputTypeError(f"documents: expected a sequence of str, found {type(documents).__name__}")
    return list(documents)


def as_list(texts: object) -> tuple[list | tuple, bool]:
    """The texts of a str or of any sequence of them (list, tuple, numpy, pandas, pyarrow), and whether it was one str."""
    if isinstance(texts, str):
        return [texts], True
    if isinstance(texts, (list, tuple)):
        return texts, False
    # `to_pylist` is pyarrow's and comes first, because pyarrow's columns also have `tolist`.
    for name in ("to_pylist", "tolist"):
        convert = getattr(texts, name, None)
        if convert is not None:
            items = convert()
            if isinstance(items, list):
                return items, False
    from collections.abc import Sequence

    if isinstance(texts, Sequence) and not isinstance(texts, (bytes, bytearray, memoryview)):
        return list(texts), False
    raise InputTypeError(f"expected a str or a sequence of str, found {type(texts).__name__}")
