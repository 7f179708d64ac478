"""trivec: BGE-M3 and other XLM-RoBERTa embedders and rerankers on CPUs.

>>> import trivec
>>> model = trivec.Model("starter")          # or "bge-m3" after `trivec pull bge-m3`, or a path
>>> vectors = model.encode(["one text", "another"]).dense
>>> vectors.shape == (2, model.info["dense_dim"])
True

`trivec.flag` has FlagEmbedding's classes, `trivec.encoders` those of sentence-transformers without torch, `trivec.aio` is for asyncio.
"""

from ._errors import (
    Cancelled,
    Error,
    IndexDamaged,
    IndexLocked,
    InputError,
    InputTypeError,
    InternalError,
    ModelError,
    ModeUnavailable,
    NoDocument,
    OptionError,
    TrainingLocked,
)
from ._index import Hits, Index
from ._model import Encoded, Model
from ._reranker import Reranked, Reranker
from ._train import train
from ._trivec import __version__, instruction_sets

__all__ = [
    "Cancelled",
    "Encoded",
    "Error",
    "Hits",
    "Index",
    "IndexDamaged",
    "IndexLocked",
    "InputError",
    "InputTypeError",
    "InternalError",
    "ModeUnavailable",
    "Model",
    "ModelError",
    "NoDocument",
    "OptionError",
    "Reranked",
    "Reranker",
    "TrainingLocked",
    "__version__",
    "instruction_sets",
    "train",
]

_MODULES = ("aio", "batch", "encoders", "fastembed", "flag", "integrations", "ray", "spark", "st")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio, batch, encoders, fastembed, flag, integrations, ray, spark, st
else:

    def __getattr__(name):
        """Imports a module of the package when it is first named: `import trivec` alone must be quick, and some modules need other packages."""
        if name in _MODULES:
            import importlib

            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
