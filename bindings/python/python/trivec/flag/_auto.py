"""`FlagAutoModel`, `FlagAutoReranker`, and the classes whose models trivec does not run."""

from __future__ import annotations

import logging
import os
from enum import Enum
from typing import Any

from .._errors import ModeUnavailable, OptionError
from ._common import AbsEmbedder, AbsReranker
from ._embedders import BaseEmbedder, M3Embedder
from ._reranker import BaseReranker

logger = logging.getLogger(__name__)


def _refused(name: str, what: str) -> ModeUnavailable:
    return ModeUnavailable(f"{name}: trivec runs XLM-RoBERTa encoders (bge-m3, multilingual-e5, bge-reranker-*), not {what}: use FlagEmbedding itself")


class _NotHere:
    def __init__(self, *arguments: Any, **_: Any):
        raise _refused(" ".join([type(self).__name__, *map(repr, arguments[:1])]), "this class's models")


class FlagICLModel(_NotHere, AbsEmbedder):
    """Refused: a decoder."""


class FlagLLMModel(_NotHere, AbsEmbedder):
    """Refused: a decoder."""


class FlagPseudoMoEModel(_NotHere, AbsEmbedder):
    """Refused: a decoder."""


class FlagLLMReranker(_NotHere, AbsReranker):
    """Refused: a decoder."""


class LayerWiseFlagLLMReranker(_NotHere, AbsReranker):
    """Refused: a decoder."""


class LightWeightFlagLLMReranker(_NotHere, AbsReranker):
    """Refused: a decoder."""


class EmbedderModelClass(Enum):
    ENCODER_ONLY_BASE = "encoder-only-base"
    ENCODER_ONLY_M3 = "encoder-only-m3"
    DECODER_ONLY_BASE = "decoder-only-base"
    DECODER_ONLY_ICL = "decoder-only-icl"
    DECODER_ONLY_PSEUDO_MOE = "decoder-only-pseudo_moe"


class RerankerModelClass(Enum):
    ENCODER_ONLY_BASE = "encoder-only-base"
    DECODER_ONLY_BASE = "decoder-only-base"
    DECODER_ONLY_LAYERWISE = "decoder-only-layerwise"
    DECODER_ONLY_LIGHTWEIGHT = "decoder-only-lightweight"


EMBEDDERS: dict[EmbedderModelClass, type] = {
    EmbedderModelClass.ENCODER_ONLY_BASE: BaseEmbedder,
    EmbedderModelClass.ENCODER_ONLY_M3: M3Embedder,
    EmbedderModelClass.DECODER_ONLY_BASE: FlagLLMModel,
    EmbedderModelClass.DECODER_ONLY_ICL: FlagICLModel,
    EmbedderModelClass.DECODER_ONLY_PSEUDO_MOE: FlagPseudoMoEModel,
}
RERANKERS: dict[RerankerModelClass, type] = {
    RerankerModelClass.ENCODER_ONLY_BASE: BaseReranker,
    RerankerModelClass.DECODER_ONLY_BASE: FlagLLMReranker,
    RerankerModelClass.DECODER_ONLY_LAYERWISE: LayerWiseFlagLLMReranker,
    RerankerModelClass.DECODER_ONLY_LIGHTWEIGHT: LightWeightFlagLLMReranker,
}
# The names known to FlagEmbedding that are XLM-RoBERTa models, with class, pooling, and format of instructions.
KNOWN_EMBEDDERS: dict[str, tuple[type, str, str]] = {
    "bge-m3": (M3Embedder, "cls", "{}{}"),
    "multilingual-e5-large-instruct": (BaseEmbedder, "mean", "Instruct: {}\nQuery: {}"),
    "multilingual-e5-large": (BaseEmbedder, "mean", "{}{}"),
    "multilingual-e5-base": (BaseEmbedder, "mean", "{}{}"),
}
KNOWN_RERANKERS = ("bge-reranker-base", "bge-reranker-large", "bge-reranker-v2-m3", "bce-reranker-base_v1")
# How the other names known to FlagEmbedding begin.
OTHERS = ("bge-", "e5-", "multilingual-e5-small", "gte-", "Qwen3-", "SFR-", "Linq-", "bce-", "jina-")


def _base_name(name: str) -> str:
    base = os.path.basename(name)
    return os.path.basename(os.path.dirname(name)) if base.startswith("checkpoint-") else base


def _unknown(base: str) -> Exception:
    if base.startswith(OTHERS):
        return _refused(base, "this one")
    return OptionError(
        f"Model name '{base}' not found in the model mapping. You can directly specify the corresponding `model_class` to instantiate the model."
    )


class FlagAutoModel:
    """Chooses the class of an embedder by its name."""

    def __init__(self) -> None:
        raise EnvironmentError(
            "FlagAutoModel is designed to be instantiated using the `FlagAutoModel.from_finetuned(model_name_or_path)` method."
        )

    @classmethod
    def from_finetuned(
        cls,
        model_name_or_path: str,
        model_class: str | EmbedderModelClass | None = None,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        devices: Any = None,
        pooling_method: str | None = None,
        trust_remote_code: bool | None = None,
        query_instruction_format: str | None = None,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> Any:
        base = _base_name(model_name_or_path)
        if model_class is not None:
            kind = EMBEDDERS[EmbedderModelClass(model_class)]
            pooling, form = "cls", "{}{}"
            for name, value, default in (
                ("pooling_method", pooling_method, pooling),
                ("trust_remote_code", trust_remote_code, False),
                ("query_instruction_format", query_instruction_format, form),
            ):
                if value is None:
                    logger.warning("`%s` is not specified, set to default value '%s'.", name, default)
        elif base in KNOWN_EMBEDDERS:
            kind, pooling, form = KNOWN_EMBEDDERS[base]
        else:
            raise _unknown(base)
        return kind(
            model_name_or_path,
            normalize_embeddings=normalize_embeddings,
            use_fp16=use_fp16,
            use_bf16=use_bf16,
            query_instruction_for_retrieval=query_instruction_for_retrieval,
            query_instruction_format=form if query_instruction_format is None else query_instruction_format,
            devices=devices,
            pooling_method=pooling if pooling_method is None else pooling_method,
            trust_remote_code=bool(trust_remote_code),
            truncate_dim=truncate_dim,
            **kwargs,
        )


class FlagAutoReranker:
    """Chooses the class of a reranker by its name."""

    def __init__(self) -> None:
        raise EnvironmentError(
            "FlagAutoReranker is designed to be instantiated using the `FlagAutoReranker.from_finetuned(model_name_or_path)` method."
        )

    @classmethod
    def from_finetuned(
        cls,
        model_name_or_path: str,
        model_class: str | RerankerModelClass | None = None,
        use_fp16: bool = False,
        trust_remote_code: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        base = _base_name(model_name_or_path)
        if model_class is not None:
            kind = RERANKERS[RerankerModelClass(model_class)]
        elif base in KNOWN_RERANKERS:
            kind = BaseReranker
        else:
            raise _unknown(base)
        return kind(model_name_or_path, use_fp16=use_fp16, trust_remote_code=bool(trust_remote_code), **kwargs)
