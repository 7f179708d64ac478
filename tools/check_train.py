#!/usr/bin/env python3
"""Holds a model that `trivec train` wrote (a directory) against PyTorch and sentence-transformers.

    pip install torch sentence-transformers
    python tools/check_train.py my-model target/release/trivec

1. `torch.load(weights_only=True)` of both .pt files gives the numbers of the .safetensors: what FlagEmbedding's M3 class loads.
2. sentence-transformers' dense vectors are the engine's within 1e-3 (heads in f16, the encoder in f32 in both).
3. Sparse weights and ColBERT vectors by those two layers in torch, on transformers' states, are the engine's within 1e-3.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

TEXTS = ["A cat sleeps on the roof.", "the sun", "It is seen at night and makes the tides."]
BOUND = 1e-3


def engine(trivec, model):
    run = subprocess.run([trivec, "-q", "embed", "--model", model, "--modes", "all", *TEXTS], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def worst(name, value):
    print(f"{name}: largest difference {value:.2e}")
    if not value <= BOUND:
        sys.exit(f"{name}: {value} is more than {BOUND}")


def main():
    model, trivec = Path(sys.argv[1]), sys.argv[2]
    heads = {}
    for name in ("colbert_linear", "sparse_linear"):
        loaded = torch.load(model / f"{name}.pt", map_location="cpu", weights_only=True)
        stored = load_file(model / f"{name}.safetensors")
        for part in ("weight", "bias"):
            assert torch.equal(loaded[part], stored[f"{name}.{part}"]), (name, part)
        weight = loaded["weight"]
        heads[name] = torch.nn.Linear(weight.shape[1], weight.shape[0])
        # As FlagEmbedding does: a state dict into a layer of the same shape.
        heads[name].load_state_dict(loaded)
        print(f"{name}.pt: {tuple(weight.shape)}, {weight.dtype}, the numbers of {name}.safetensors")
    found = engine(trivec, str(model))
    transformer = SentenceTransformer(str(model), device="cpu")
    dense = transformer.encode(TEXTS, convert_to_numpy=True)
    worst("dense", max(np.abs(np.array(f["dense"]) - d).max() for f, d in zip(found, dense)))
    with torch.no_grad():
        for text, one in zip(TEXTS, found):
            tokens = transformer.tokenizer([text], return_tensors="pt")
            states = transformer[0].auto_model(**tokens).last_hidden_state[0].float()
            rows = torch.nn.functional.normalize(heads["colbert_linear"](states[1:]), dim=-1).numpy()
            worst("colbert", np.abs(rows - np.array(one["colbert"])).max())
            weights = torch.relu(heads["sparse_linear"](states))[:, 0].numpy()
            of_piece = {}
            for token, weight in zip(tokens["input_ids"][0].tolist(), weights):
                if token > 3:
                    of_piece[token] = max(of_piece.get(token, 0.0), float(weight))
            expected = {k: v for k, v in of_piece.items() if v > 0}
            got = sparse(one)
            keys = set(expected) | set(got)
            worst("sparse", max((abs(expected.get(k, 0.0) - got.get(k, 0.0)) for k in keys), default=0.0))


def sparse(record):
    value = record.get("sparse") or record.get("lexical")
    if isinstance(value, dict) and "indices" in value:
        return dict(zip(value["indices"], value["values"]))
    return {int(k): v for k, v in value.items()}


if __name__ == "__main__":
    main()
