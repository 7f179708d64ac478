"""A module for sentence-transformers 6: `SentenceTransformer(modules=[TrivecTransformer("bge-m3")])` embeds with trivec and has all features of that class.

`TrivecTransformer(model, "colbert")` is a module for `MultiVectorEncoder`, whose similarity `meanmaxsim` is that of BGE-M3.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.models import InputModule

from ._errors import OptionError
from ._model import Model


class TrivecTransformer(InputModule):
    """Turns texts into `sentence_embedding` (mode dense), or into `token_embeddings` with their mask (mode colbert)."""

    save_in_root = True

    def __init__(self, model: Any = None, mode: str = "dense"):
        super().__init__()
        if mode not in ("dense", "colbert"):
            raise OptionError(f"mode: found {mode!r}, expected 'dense' or 'colbert'")
        self.engine = model if isinstance(model, Model) else Model(model)
        self.mode = mode
        self.max_seq_length = self.engine.info["max_length"]
        # sentence-transformers finds a module's device by its tensors, so the module has one.
        self.register_buffer("_device", torch.zeros(1), persistent=False)

    def preprocess(self, inputs: Any, prompt: str | None = None, **_: Any) -> dict[str, Any]:
        return {"texts": [(prompt or "") + text for text in inputs]}

    tokenize = preprocess

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        encoded = self.engine.encode(features["texts"], modes=self.mode, prompt="")
        if self.mode == "dense":
            features["sentence_embedding"] = torch.from_numpy(encoded.dense)
        else:
            rows = [torch.from_numpy(vectors) for vectors in encoded.colbert]
            features["token_embeddings"] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            lengths = torch.tensor([len(vectors) for vectors in rows])
            features["attention_mask"] = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
        return features

    def get_embedding_dimension(self) -> int:
        return self.engine.info["dense_dim" if self.mode == "dense" else "colbert_dim"]

    get_sentence_embedding_dimension = get_embedding_dimension

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the model is a file of its own: pickle this, or keep its path")
