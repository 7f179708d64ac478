"""Runs the Python of a page of docs/python: its blocks of ```python one after another, each followed by a block of ```text if it prints.

`pages.py PAGE...` writes what the blocks print into the pages.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import sys

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n.*?```\n)?", re.DOTALL)


def with_outputs(page: str, name: str = "page") -> str:
    """The page with the output that its blocks print now. The blocks run in the current directory."""
    names = {"__name__": "__main__"}

    def run(block: re.Match[str]) -> str:
        code, printed = block.group(1), io.StringIO()
        before = page[: block.start()].count("\n") + 1
        with contextlib.redirect_stdout(printed):
            # The empty lines before the code make errors name the page's line numbers.
            exec(compile("\n" * before + code, name, "exec"), names)
        shown = f"\n```text\n{printed.getvalue()}```\n" if printed.getvalue() else ""
        return f"```python\n{code}```\n{shown}"

    return BLOCK.sub(run, page)


if __name__ == "__main__":
    import os
    import tempfile

    for page in [pathlib.Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            page.write_text(with_outputs(page.read_text(), page.name))
