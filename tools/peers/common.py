"""What the engines share: reading the checkpoint, token ids, padded batches, and the worker's line protocol."""

import argparse
import json
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np

PAD, FIRST, LAST = 1, 0, 2


class Checkpoint:
    """A Hugging Face directory with config.json and an F32 model.safetensors; tensors are mapped, not read."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.config = json.loads((self.directory / "config.json").read_text())
        path = self.directory / "model.safetensors"
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            self.header = json.loads(file.read(length))
        self.header.pop("__metadata__", None)
        self.bytes = np.memmap(path, np.uint8, "r", offset=8 + length)
        self.layers = self.config["num_hidden_layers"]
        self.heads = self.config["num_attention_heads"]
        self.hidden = self.config["hidden_size"]
        self.ffn = self.config["intermediate_size"]
        self.vocabulary = self.config["vocab_size"]
        self.eps = self.config["layer_norm_eps"]

    def __call__(self, name):
        entry = self.header[name]
        assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}, not F32"
        begin, end = entry["data_offsets"]
        return self.bytes[begin:end].view(np.float32).reshape(entry["shape"])

    def positions(self):
        """The position rows from the first text position on, with the one token type added."""
        return self("embeddings.position_embeddings.weight")[PAD + 1 :] + self("embeddings.token_type_embeddings.weight")


def random_ids(texts, length, vocabulary, seed=1):
    ids = np.random.default_rng(seed + 1000 * texts + length).integers(5, vocabulary, (texts, length))
    ids[:, 0], ids[:, -1] = FIRST, LAST
    return ids


def texts_of(lengths, vocabulary):
    return [random_ids(1, length, vocabulary, seed=i)[0] for i, length in enumerate(lengths)]


def pad(texts):
    """Token ids padded to the longest text, and the attention mask."""
    longest = max(len(t) for t in texts)
    ids = np.full((len(texts), longest), PAD, np.int64)
    mask = np.zeros((len(texts), longest), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return ids, mask


def arguments(variants):
    """`--prepare CHECKPOINT --model DIR` converts, `--worker --model DIR` answers requests."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=variants, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prepare", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max-length", type=int, default=2048)
    return parser.parse_args()


def private_stdout():
    """The protocol's stream; whatever a library prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


def serve(out, load, vocabulary, version, token_limit=None):
    """`load()` gives `forward(texts, want) -> cls vectors or None`; `texts` is a list of id arrays, run as one batch."""
    begin = time.perf_counter()
    forward = load()
    ready = {"ready": True, "version": version, "load_s": time.perf_counter() - begin}
    print(json.dumps(ready), file=out)

    def batches(texts, size):
        """Sorted by length, longest first, so that the padding is small; `token_limit` holds down a batch's tokens."""
        batch = []
        for text in sorted(texts, key=len, reverse=True):
            full = token_limit and (len(batch) + 1) * len(batch[0] if batch else text) > token_limit
            if batch and (len(batch) == size or full):
                yield batch
                batch = []
            batch.append(text)
        yield batch

    for line in sys.stdin:
        request = json.loads(line)
        if "ids" in request:
            texts = [np.array(t, np.int64) for t in request["ids"]]
            print(json.dumps({"cls": np.asarray(forward(texts, True), np.float64).tolist()}), file=out)
            continue
        if "lengths" in request:
            plan = list(batches(texts_of(request["lengths"], vocabulary), request.get("batch", 1)))
        else:
            count, length = request["shape"]
            plan = [list(random_ids(count, length, vocabulary))]
        times = []
        for _ in range(request["runs"]):
            begin = time.perf_counter()
            for batch in plan:
                forward(batch, False)
            times.append(1000 * (time.perf_counter() - begin))
        print(json.dumps({"ms": times}), file=out)


def vocabulary_of(model):
    return int((Path(model) / "vocabulary_size").read_text())


def note_vocabulary(model, size):
    (Path(model) / "vocabulary_size").write_text(str(size))
