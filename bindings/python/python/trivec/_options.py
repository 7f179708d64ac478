"""Checks the options of a call that are whole numbers."""

from __future__ import annotations

import operator

from ._errors import OptionError

# The largest usize of Rust on a 64-bit machine.
MOST = 2**64 - 1


def counts(**options: object) -> dict[str, int | None]:
    """The options as ints; numpy's integers are converted, and None stays None. OptionError names an option that is not a whole number of 0 or more."""
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
