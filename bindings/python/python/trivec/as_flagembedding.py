"""`python -m trivec.as_flagembedding SCRIPT [ARGUMENT...]`: runs a script in which `import FlagEmbedding` gives `trivec.flag`.

`install()` does the same within a program, before anything imports FlagEmbedding.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

# The modules of FlagEmbedding that others import from.
MODULES = (
    "FlagEmbedding",
    "FlagEmbedding.abc",
    "FlagEmbedding.abc.inference",
    "FlagEmbedding.inference",
    "FlagEmbedding.inference.auto_embedder",
    "FlagEmbedding.inference.auto_reranker",
    "FlagEmbedding.inference.embedder",
    "FlagEmbedding.inference.embedder.encoder_only",
    "FlagEmbedding.inference.embedder.encoder_only.base",
    "FlagEmbedding.inference.embedder.encoder_only.m3",
    "FlagEmbedding.inference.reranker",
    "FlagEmbedding.inference.reranker.encoder_only",
    "FlagEmbedding.inference.reranker.encoder_only.base",
)


def install() -> None:
    """From now on `import FlagEmbedding` gives `trivec.flag`, whether FlagEmbedding is installed or not."""
    from . import flag

    for name in MODULES:
        module = ModuleType(name, "FlagEmbedding's names on trivec")
        # Programs that ask `importlib.util.find_spec` before an import need a spec.
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        module.__all__ = list(flag.__all__)  # type: ignore[attr-defined]
        for own in flag.__all__:
            setattr(module, own, getattr(flag, own))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    sys.modules["FlagEmbedding"].__version__ = "1.4.2"  # type: ignore[attr-defined]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python -m trivec.as_flagembedding SCRIPT [ARGUMENT...]")
    install()
    sys.argv = sys.argv[1:]
    # Python also puts a script's directory first on the path.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
