"""`python -m trivec ...` runs the program `trivec`: the one that was installed with this package, or else the one on the path."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig


def program() -> str:
    """The path of the program `trivec`."""
    name = "trivec.exe" if os.name == "nt" else "trivec"
    own = os.path.join(sysconfig.get_path("scripts"), name)
    found = own if os.path.isfile(own) else shutil.which(name)
    if found is None:
        raise FileNotFoundError("the program `trivec` is neither beside this Python nor on the path")
    return found


def main() -> None:
    path = program()
    if os.name == "nt":
        import subprocess

        sys.exit(subprocess.call([path, *sys.argv[1:]]))
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()
