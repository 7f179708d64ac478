"""`FlagReranker`."""

from __future__ import annotations

import math
from typing import Any

from .._errors import OptionError
from .._locate import resolve
from .._model import Model
from ._common import AbsReranker, bar, check_batch_size, check_devices, checked_length, instructed, refuse_unknown
from ._embedders import pairs_of

# The least max_length of a pair, the engine's own limit: four special tokens, and some tokens of each text.
LEAST_TOKENS = 17


class BaseReranker(AbsReranker):
    """FlagEmbedding's `FlagReranker`."""

    def __init__(
        self,
        model_name_or_path: str,
        use_fp16: bool = False,
        query_instruction_for_rerank: str | None = None,
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = None,
        passage_instruction_format: str = "{}{}",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        devices: Any = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ):
        engine = Model(resolve(model_name_or_path, cache_dir))
        if not engine.info["rerank"]:
            raise OptionError(f"{model_name_or_path}: the model is an embedder: BGEM3FlagModel or FlagModel loads it")
        self.model_name_or_path = model_name_or_path
        self.use_fp16 = use_fp16
        self.query_instruction_for_rerank = query_instruction_for_rerank
        self.query_instruction_format = query_instruction_format
        self.passage_instruction_for_rerank = passage_instruction_for_rerank
        self.passage_instruction_format = passage_instruction_format
        self.batch_size = batch_size
        self.query_max_length = query_max_length
        self.max_length = max_length
        self.normalize = normalize
        self._common(engine, devices, kwargs)

    def get_detailed_inputs(self, sentence_pairs: Any) -> list[list[str]]:
        """The pairs, each text with its instruction before it."""

        def side(text: str, form: str, instruction: str | None) -> str:
            return text if instruction is None else instructed(form, instruction, text)

        return [
            [
                side(query, self.query_instruction_format, self.query_instruction_for_rerank),
                side(passage, self.passage_instruction_format, self.passage_instruction_for_rerank),
            ]
            for query, passage in sentence_pairs
        ]

    def compute_score(self, sentence_pairs: Any, **kwargs: Any) -> Any:
        """The scores as a list of floats, for a single pair too; as a numpy array if several devices were named."""
        pairs, _ = pairs_of(sentence_pairs)
        scores = self.compute_score_single_gpu(self.get_detailed_inputs(pairs), **kwargs)
        if len(self.target_devices) == 1:
            return scores
        import numpy as np

        return np.array(scores)

    def compute_score_single_gpu(
        self,
        sentence_pairs: Any,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> list[float]:
        refuse_unknown(kwargs, "compute_score")
        batch_size = self.batch_size if batch_size is None else batch_size
        check_batch_size(batch_size)
        check_devices(device)
        length = checked_length("max_length", self.max_length if max_length is None else max_length, self.engine, LEAST_TOKENS)
        query_length = self.query_max_length if query_max_length is None else query_max_length
        if query_length is not None and query_length < 1:
            raise OptionError(f"query_max_length: found {query_length}, expected 1 or more tokens")
        pairs, _ = pairs_of(sentence_pairs)
        told, end = bar(len(pairs), batch_size, "Compute Scores")
        try:
            logits = self.engine.engine.rerank(
                pairs, max_length=length, max_query=query_length, prompt_text="", progress=told
            )[0].tolist()
        finally:
            end()
        wanted = self.normalize if normalize is None else normalize
        return [sigmoid(logit) for logit in logits] if wanted else logits

    def encode_multi_process(self, sentence_pairs: Any, pool: Any, **kwargs: Any) -> Any:
        import numpy as np

        return np.array(self.compute_score_single_gpu(sentence_pairs, **kwargs))


def sigmoid(x: float) -> float:
    # Below -700, e^-x would overflow a float, and the sigmoid is 0.
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


FlagReranker = BaseReranker
