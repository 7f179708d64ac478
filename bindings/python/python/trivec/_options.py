"""Numbers among the options of a call."""

from __future__ import annotations

import operator

from ._errors import OptionError

# What Rust's counts hold on every machine that has 64 bits.
MOST = 2**64 - 1


def counts(**options: object) -> dict[str, int | None]:
    """The options as Python's ints, numpy's among them; None stays. OptionError names the one that is no number, or a negative one."""
    checked: dict[str, int | None] = {}
    for name, value in options.items():
        if value is None:
            checked[name] = None
            continue
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if isinstance(value, bool) or not 0 <= number <= MOST:
            raise OptionError(f"{name}: found {value!r}, expected a whole number of 0 or more")
        checked[name] = number
    return checked
