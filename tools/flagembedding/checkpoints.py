#!/usr/bin/env python3
"""checkpoints.py FOLDER: tiny checkpoints as FlagEmbedding wants them, FOLDER/m3 and FOLDER/reranker, and in a cache of Hugging Face's layout (FOLDER/hub),
under the names that FlagEmbedding's examples have, the first and a reranker with XLM-RoBERTa's tokenizer: with transformers 5 FlagEmbedding decodes a pair's
ids and tokenises that again, which gives the same ids where words are known. Needs torch, transformers and safetensors.

Weights are numbers of f16: FlagEmbedding rounds to these by default, on the CPU as well, and computes with f32.
"""

import gzip
import pathlib
import shutil
import sys

import torch
from reference_cases import DATA, M3, RERANKER, for_flagembedding
from safetensors.torch import load_file, save_file
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification


def rounded(tensors: dict) -> dict:
    return {key: one.half().float() for key, one in tensors.items()}


def round_weights(folder: pathlib.Path) -> None:
    weights = folder / "model.safetensors"
    save_file(rounded(load_file(weights)), weights, metadata={"format": "pt"})
    for head in folder.glob("*.pt"):
        torch.save(rounded(torch.load(head, weights_only=True)), head)


def write_reranker(folder: pathlib.Path, like: pathlib.Path) -> None:
    """A reranker of random weights with XLM-RoBERTa's tokenizer, and the tokenizer's settings of another."""
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=250002,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.2,
        num_labels=1,
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(gzip.decompress((DATA / "xlmr-tokenizer.json.gz").read_bytes()))
    shutil.copy(like / "tokenizer_config.json", folder)


def cache(folder: pathlib.Path, model: pathlib.Path, name: str) -> None:
    cached = folder / "hub" / f"models--BAAI--{name}"
    shutil.copytree(model, cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    path = for_flagembedding(folder / "made")
    for name, model in (("m3", M3), ("reranker", RERANKER)):
        shutil.copytree(path(model), folder / name)
        round_weights(folder / name)
    write_reranker(folder / "words", folder / "reranker")
    round_weights(folder / "words")
    cache(folder, folder / "m3", "bge-m3")
    cache(folder, folder / "words", "bge-reranker-large")


if __name__ == "__main__":
    main()
