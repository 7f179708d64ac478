"""FlagEmbedding's inference classes on trivec: the same arguments, results, types and key orders, without torch.

`python -m trivec.as_flagembedding script.py` runs a script that imports FlagEmbedding on them. Differences, each on purpose: an empty list gives empty
results; any sequence of str is taken, and what is no text is a TypeError that names its index; a `max_length` above the model's is the model's, with
one warning, and one below 2 is refused; `batch_size` changes no result and `devices` nothing but the number of warnings: there is the CPU.
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
