"""FlagEmbedding's inference classes on trivec: the same arguments, results, types and key orders, without torch.

`python -m trivec.as_flagembedding script.py` runs a script that imports FlagEmbedding with these classes instead. They differ from FlagEmbedding's in a few
ways, each on purpose: an empty list gives empty results; any sequence of str is accepted, and an item that is no str is a TypeError that names its index; a
`max_length` above the model's is replaced by the model's, with one warning, and one below 2 is refused; `batch_size` changes no result; `devices` other than
the CPU are ignored, with one warning.
"""

from ._auto import (
    EmbedderModelClass,
    FlagAutoModel,
    FlagAutoReranker,
    FlagICLModel,
    FlagLLMModel,
    FlagLLMReranker,
    FlagPseudoMoEModel,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
    RerankerModelClass,
)
from ._common import AbsEmbedder, AbsReranker
from ._embedders import BaseEmbedder, BGEM3FlagModel, FlagModel, M3Embedder
from ._reranker import BaseReranker, FlagReranker

__all__ = [
    "AbsEmbedder",
    "AbsReranker",
    "BGEM3FlagModel",
    "BaseEmbedder",
    "BaseReranker",
    "EmbedderModelClass",
    "FlagAutoModel",
    "FlagAutoReranker",
    "FlagICLModel",
    "FlagLLMModel",
    "FlagLLMReranker",
    "FlagModel",
    "FlagPseudoMoEModel",
    "FlagReranker",
    "LayerWiseFlagLLMReranker",
    "LightWeightFlagLLMReranker",
    "M3Embedder",
    "RerankerModelClass",
]
