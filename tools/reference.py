#!/usr/bin/env python3
"""The reference that trivec is measured against: PyTorch fp32, transformers' XLM-RoBERTa, FlagEmbedding's formulas.

Nothing here is needed to build or run trivec; it makes and remakes the fixtures of tests/data.

    tools/reference.py make-models                     # tests/data/models: tiny random checkpoints
    tools/reference.py golden                          # tests/data/golden/<model>.safetensors
    tools/reference.py make-rerankers                  # tests/data/rerankers: tiny random rerankers
    tools/reference.py golden-rerank                   # tests/data/golden/<reranker>.json
    tools/reference.py golden-starter                  # tests/data/golden/starter.safetensors
    tools/reference.py tokenizer-ids --tokenizer FILE  # tests/data/golden/tokenizer_ids.json
    tools/reference.py sentencepiece-ids               # tests/data/golden/sentencepiece_ids.json
    tools/reference.py encode DIR --texts FILE         # JSONL for any checkpoint

Needs: torch, transformers, tokenizers, safetensors, numpy (versions used: see the metadata of the golden files).

Formulas (x: token ids of one text with <s> and </s>, H: last hidden states, one row a token):
    dense    pool(H), then 2_Dense if the checkpoint has one, then the first `dimensions` values, then
             d / max(|d|, 1e-12) unless modules.json lists no Normalize. pool is H[0] (cls) or the mean of all rows.
    sparse   w_i = relu(W_s H_i + b_s); the largest w per id; ids 0, 1, 2, 3 dropped; only w > 0 kept.
    colbert  W_c H_i + b_c for i = 1 .. n-1 (so </s> is kept), each row normalised like dense.
    rerank   transformers' XLMRobertaForSequenceClassification with one label on <s> q </s></s> d </s>: its logit. As FlagEmbedding's
             FlagReranker, q keeps max_length * 3 // 4 tokens at most and d what then fits (`only_second`).
One sequence runs at a time, so there is no padding: an id 1 in the input comes from a literal <pad> in the text, and
FlagEmbedding attends to it as to any token. Its position id is 1, as transformers computes it.
"""

import argparse
import base64
import gzip
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny_models

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
STARTER = DATA.parent.parent / "models" / "starter"
DROPPED_IDS = (0, 1, 2, 3)  # <s>, <pad>, </s>, <unk>; <mask> keeps its weight
EPS = 1e-12


# --- checkpoints ---


def dequantize_q4_0(blocks):
    """U8 [rows, blocks, 18] to F32 [rows, blocks * 32]: f16 scale, then 16 bytes; low nibbles are weights 0..15."""
    blocks = blocks.numpy()
    scale = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    packed = blocks[..., 2:]
    nibbles = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32)
    return torch.from_numpy(((nibbles - 8) * scale).reshape(blocks.shape[0], -1))


def read_tensors(path):
    """All tensors of one file as F32; F16 and BF16 are widened exactly, 4-bit blocks are unpacked."""
    tensors = {}
    if path.suffix in (".bin", ".pt"):  # our own fixtures; `weights_only` knows no pickle protocol 4
        for name, tensor in torch.load(path, weights_only=False).items():
            name = name.removeprefix("module.").removeprefix("roberta.")
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        return tensors
    with safe_open(path, "pt") as file:
        is_q4 = (file.metadata() or {}).get("trivec.q4_0") == "1"
        for name in file.keys():
            tensor = file.get_tensor(name)
            if tensor.dtype == torch.uint8 and is_q4:
                tensor = dequantize_q4_0(tensor)
            tensors[name.removeprefix("roberta.")] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


def read_json(path):
    return json.loads(Path(path).read_text("utf-8"))


class Checkpoint:
    """A model directory in Hugging Face layout."""

    def __init__(self, directory):
        self.directory = Path(directory)
        config = transformers.XLMRobertaConfig(**read_json(self.directory / "config.json"))
        self.max_length = config.max_position_embeddings - config.pad_token_id - 1
        tensors = self._read_all()
        self.heads = {}
        for head in ("sparse_linear", "colbert_linear"):
            if f"{head}.weight" in tensors:
                self.heads[head] = [tensors.pop(f"{head}.weight"), tensors.pop(f"{head}.bias")]
        extras = ("pooler.", "lm_head.", "embeddings.position_ids")
        self.model = transformers.XLMRobertaModel(config, add_pooling_layer=False)
        self.model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(extras)}, strict=True)
        self.model.eval()
        self._read_modules()

    def _read_all(self):
        ending = "safetensors" if any(self.directory.glob("*.safetensors")) else "bin"
        stem = "model" if ending == "safetensors" else "pytorch_model"
        index = self.directory / f"{stem}.{ending}.index.json"
        files = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else [f"{stem}.{ending}"]
        tensors = {}
        for file in files:
            tensors |= read_tensors(self.directory / file)
        for head in ("sparse_linear", "colbert_linear"):
            for path in (self.directory / f"{head}.safetensors", self.directory / f"{head}.pt"):
                if path.exists():
                    # A file of its own may name its tensors `weight` and `bias`.
                    tensors |= {n if "." in n else f"{head}.{n}": t for n, t in read_tensors(path).items()}
        return tensors

    def _read_modules(self):
        self.pooling, self.projection, self.activation, self.normalize = "cls", None, None, True
        path = self.directory / "modules.json"
        if not path.exists():
            return  # BGE-M3 as FlagEmbedding runs it
        self.normalize = False
        for module in sorted(read_json(path), key=lambda module: module["idx"]):
            kind, folder = module["type"].rsplit(".", 1)[-1], self.directory / module["path"]
            if kind == "Pooling":
                config = read_json(folder / "config.json")
                modes = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
                if modes not in (["pooling_mode_cls_token"], ["pooling_mode_mean_tokens"]):
                    raise ValueError(f"{folder}: pooling {modes} is not supported")
                self.pooling = "cls" if "cls" in modes[0] else "mean"
            elif kind == "Dense":
                files = [folder / "model.safetensors", folder / "pytorch_model.bin"]
                config, tensors = read_json(folder / "config.json"), read_tensors(next(f for f in files if f.exists()))
                self.projection = [tensors["linear.weight"], tensors.get("linear.bias")]
                name = config.get("activation_function", "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
                self.activation = {"Identity": lambda x: x, "Tanh": torch.tanh}[name]
            elif kind == "Normalize":
                self.normalize = True
            elif kind != "Transformer":
                raise ValueError(f"{path}: module {module['type']} is not supported")

    def double(self):
        """Turns everything to float64, to measure how far the fp32 reference itself is off."""
        self.model.double()
        self.heads = {name: [t.double() for t in head] for name, head in self.heads.items()}
        if self.projection:
            self.projection = [t.double() if t is not None else None for t in self.projection]
        return self

    def dense_dim(self):
        return len(self.projection[0]) if self.projection else self.model.config.hidden_size

    def tokenizer(self, max_length=None):
        tokenizer = tokenizers.Tokenizer.from_file(str(self.directory / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(max_length or self.max_length, self.max_length))
        return tokenizer

    # --- formulas ---

    @torch.no_grad()
    def encode(self, ids, dimensions=None):
        """Token ids of one text to {dense, dense_sliced?, sparse_ids?, sparse_weights?, colbert?}."""
        row = torch.tensor([ids])
        states = self.model(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state[0]
        pooled = states[0] if self.pooling == "cls" else states.mean(0)
        if self.projection:
            pooled = self.activation(torch.nn.functional.linear(pooled, *self.projection))
        finish = self._normalized if self.normalize else (lambda x: x)
        out = {"dense": finish(pooled)}
        if dimensions:
            out["dense_sliced"] = finish(pooled[:dimensions])
        if "sparse_linear" in self.heads:
            weights = torch.relu(torch.nn.functional.linear(states, *self.heads["sparse_linear"])).squeeze(-1)
            best = torch.zeros(self.model.config.vocab_size, dtype=weights.dtype)
            best.scatter_reduce_(0, row[0], weights, "amax")
            best[list(DROPPED_IDS)] = 0
            out["sparse_ids"] = best.nonzero().squeeze(-1)
            out["sparse_weights"] = best[out["sparse_ids"]]
        if "colbert_linear" in self.heads:
            out["colbert"] = self._normalized(torch.nn.functional.linear(states[1:], *self.heads["colbert_linear"]))
        return out

    @staticmethod
    def _normalized(x):
        return torch.nn.functional.normalize(x, p=2, dim=-1, eps=EPS)


# --- golden files ---


def metadata(command, **more):
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"tokenizers": tokenizers.__version__, "numpy": np.__version__}
    return {"origin": f"tools/reference.py {command} (fp32, CPU)", **versions, **more}


def save_golden(path, tensors, meta):
    path.parent.mkdir(parents=True, exist_ok=True)
    # One metadata entry: the writer orders several at random, and the files would differ from run to run.
    # Cloned, because a slice shares its storage and the writer refuses that.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"trivec.golden": json.dumps(meta)})
    path.chmod(0o644)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def keep_rows(out, rows):
    """Replaces the ColBERT matrix by some of its rows and says which: long texts would make the fixture too large."""
    if "colbert" in out and rows is not None:
        out["colbert"], out["colbert_rows"] = out["colbert"][rows], torch.tensor(rows)


def golden_models(args):
    """One golden file a tiny model, at token-id level."""
    for directory in sorted(path for path in args.models.iterdir() if (path / "config.json").exists()):
        spec = tiny_models.MODELS[directory.name]
        checkpoint, exact = Checkpoint(directory), Checkpoint(directory).double()
        tensors, off = {}, {}
        for case, ids in tiny_models.cases(spec).items():
            dimensions = checkpoint.dense_dim() // 2
            out = checkpoint.encode(ids, dimensions)
            for name, tensor in exact.encode(ids, dimensions).items():
                # This pass only measures. Another number of ids (a weight at the edge of 0) has nothing to compare.
                if tensor.is_floating_point() and tensor.shape == out[name].shape and tensor.numel():
                    off[name] = max(off.get(name, 0.0), (out[name].double() - tensor).abs().max().item())
            if len(ids) > 1000:
                last = len(ids) - 2
                keep_rows(out, sorted({*range(8), *range(last - 7, last + 1), *range(100, last, last // 48)}))
            tensors |= {f"{case}.{name}": tensor for name, tensor in {"ids": torch.tensor(ids), **out}.items()}
        print(f"{directory.name}: fp32 against float64, largest |difference|:", {k: f"{v:.1e}" for k, v in off.items()})
        meta = metadata("golden", model=directory.name, seed=spec.seed, fp32_error=off)
        save_golden(args.out / f"{directory.name}.safetensors", tensors, meta)


# --- rerankers ---

FLAG_RERANKER_MAX_LENGTH = 512


def pair_ids(tokenizer, query, document, max_length):
    """A pair's ids as FlagReranker's compute_score makes them, by the `tokenizers` library's own cutting and template."""
    parts = [tokenizer.encode(text, add_special_tokens=False) for text in (query, document)]
    whole = sum(len(part) for part in parts) + 4
    for part, most in zip(parts, (max_length * 3 // 4, max_length)):
        part.truncate(most)
    tokenizer.enable_truncation(max_length, strategy="only_second")
    ids = tokenizer.post_process(*parts).ids
    tokenizer.no_truncation()
    assert len(ids) == min(len(ids), max_length)
    return ids, len(ids) < whole


def golden_rerank(args):
    """Pairs of texts to ids and logits, one JSON file a tiny reranker."""
    for directory in sorted(path for path in args.models.iterdir() if (path / "config.json").exists()):
        load = transformers.XLMRobertaForSequenceClassification.from_pretrained
        model = load(directory, dtype=torch.float32, attn_implementation="eager").eval()
        exact = load(directory, dtype=torch.float64, attn_implementation="eager").eval()
        tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(directory / "tokenizer.json"), bos_token="<s>", eos_token="</s>", unk_token="<unk>",
            sep_token="</s>", cls_token="<s>", pad_token="<pad>", mask_token="<mask>")
        cases, off = [], 0.0
        for name, query, document, max_length in tiny_models.rerank_cases():
            length = max_length or FLAG_RERANKER_MAX_LENGTH
            ids, truncated = pair_ids(tokenizer, query, document, length)
            if len(tokenizer.encode(query, add_special_tokens=False)) <= length * 3 // 4:
                # Where the query is whole, a plain call of transformers' tokenizer cuts the same.
                whole_pair = fast([[query, document]], truncation="only_second", max_length=length)["input_ids"][0]
                assert whole_pair == ids, (name, whole_pair, ids)
            row = torch.tensor([ids])
            with torch.no_grad():
                logit, wide = (m(input_ids=row, attention_mask=torch.ones_like(row)).logits for m in (model, exact))
            assert logit.shape == (1, 1)
            off = max(off, (logit.double() - wide).abs().item())
            logit = logit.item()
            cases.append({"name": name, "query": query, "document": document, "max_length": max_length, "ids": ids,
                          "truncated": truncated, "logit": logit, "score": 1 / (1 + np.exp(-logit))})
        logits = [case["logit"] for case in cases]
        print(f"{directory.name}: logits {min(logits):.2f} to {max(logits):.2f}, fp32 against float64 {off:.1e}")
        origin = metadata("golden-rerank", model=directory.name, fp32_error=off)
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        path = args.out / f"{directory.name}.json"
        path.write_text(f'{{"origin": {json.dumps(origin)}, "cases": [\n{lines}\n]}}\n', "utf-8")
        print(f"{path.name}: {len(cases)} pairs, {path.stat().st_size} bytes")


def read_texts(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines() if line]


def golden_starter(args):
    """Text-level golden: ids and all outputs, ColBERT rows in full for short texts, else the first and last 8."""
    checkpoint = Checkpoint(args.model)
    tokenizer = checkpoint.tokenizer()
    tensors = {}
    for text in read_texts(args.texts):
        encoding = tokenizer.encode(text["text"])
        ids, is_cut = encoding.ids, len(encoding.overflowing) > 0
        out = checkpoint.encode(ids)
        rows = len(ids) - 1
        keep_rows(out, [*range(8), *range(rows - 8, rows)] if len(ids) > args.full_rows else None)
        tensors |= {f"{text['id']}.{name}": tensor for name, tensor in {"ids": torch.tensor(ids), **out}.items()}
        tensors[f"{text['id']}.truncated"] = torch.tensor([int(is_cut)])
    weights = hashlib.sha256((Path(args.model) / "model.safetensors").read_bytes()).hexdigest()
    save_golden(args.out, tensors, metadata("golden-starter", model_sha256=weights))


def golden_tokenizer(args):
    """Ids of the full XLM-R tokenizer by the `tokenizers` library, for the texts and around the length limit."""
    raw = args.tokenizer.read_bytes()
    spec = json.loads(gzip.decompress(raw) if args.tokenizer.suffix == ".gz" else raw)
    texts = read_texts(args.texts)
    plain = tokenizers.Tokenizer.from_str(json.dumps(spec))
    ids = {text["id"]: plain.encode(text["text"]).ids for text in texts}
    # Tokenizer files of this family differ in a few settings; a variant lists only the texts that come out otherwise.
    variants = []
    for change in (
        {"/pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spec["pre_tokenizer"]]}},
        {"/added_tokens/4/lstrip": True},
        {"/normalizer": spec["normalizer"]["normalizers"][0]},
    ):
        changed = tokenizers.Tokenizer.from_str(json.dumps(with_change(spec, change)))
        other = {text["id"]: changed.encode(text["text"]).ids for text in texts}
        # The charsmap is large and the test has it: name its place instead of copying it.
        stored = {k: "/normalizer/normalizers/0" for k in change} if "/normalizer" in change else change
        copy = "/normalizer" in change
        variants.append({"change": stored, "copy": copy, "ids": {k: v for k, v in other.items() if v != ids[k]}})
    cuts = []
    cut = tokenizers.Tokenizer.from_str(json.dumps(spec))
    cut.enable_truncation(8192)
    for unit in ("wort ", "水 и "):
        per_unit = len(plain.encode(unit * 11).ids) - len(plain.encode(unit * 10).ids)
        for total in range(8190, 8194):
            # Whole units, then different words of one token up to the exact length, so that a wrong cut shows.
            repeat = (total - 12) // per_unit
            fill = total - len(plain.encode((unit * repeat).rstrip()).ids)
            tail = " ".join("abcdefghijklmnopqrstuvwxyz"[:fill])
            text = unit * repeat + tail
            full, kept = plain.encode(text).ids, cut.encode(text).ids
            assert len(full) == total, (unit, total, len(full))
            cuts.append({"unit": unit, "repeat": repeat, "tail": tail, "tokens": total, "kept": len(kept),
                         "truncated": len(full) > len(kept), "first": kept[:8], "last": kept[-8:]})
    vocabulary = hashlib.sha256(json.dumps(spec["model"]["vocab"], separators=(",", ":")).encode()).hexdigest()
    origin = metadata("tokenizer-ids", vocabulary_sha256=vocabulary)
    out = {"origin": origin, "ids": ids, "variants": variants, "cuts": cuts}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in out.items())
    args.out.write_text("{\n" + lines + "\n}\n", "utf-8")
    print(f"{args.out.name}: {len(ids)} texts, {len(cuts)} cuts, {args.out.stat().st_size} bytes")
    print("texts that differ by variant:", [len(v["ids"]) for v in variants])


def golden_sentencepiece(args):
    """Ids of the tokenizer that transformers builds of a SentencePiece model with the full XLM-R vocabulary. Needs protobuf."""
    spec = json.loads(gzip.decompress(args.tokenizer.read_bytes()))
    charsmap = base64.b64decode(spec["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    with tempfile.TemporaryDirectory() as directory:
        # The specials at both ends are not of the model.
        model = tiny_models.sentencepiece_model(spec["model"]["vocab"][4:-1], charsmap)
        (Path(directory) / "sentencepiece.bpe.model").write_bytes(model)
        tokenizer = transformers.XLMRobertaTokenizerFast.from_pretrained(directory)
    plain = tokenizers.Tokenizer.from_str(json.dumps(spec))
    texts = [*read_texts(args.texts), *({"id": text, "text": text} for text in EDGES_OF_SPACE)]
    ids = {text["id"]: tokenizer(text["text"])["input_ids"] for text in texts}
    other = {text["id"]: ids[text["id"]] for text in texts
             if ids[text["id"]] != plain.encode(text["text"]).ids or text["text"] in EDGES_OF_SPACE}
    out = {"origin": metadata("sentencepiece-ids", model_sha256=hashlib.sha256(model).hexdigest()), "other": other}
    args.out.write_text(json.dumps(out, ensure_ascii=False, indent=None) + "\n", "utf-8")
    print(f"{args.out.name}: {len(other)} of {len(texts)} texts, {args.out.stat().st_size} bytes")


# Where the pipelines of tokenizer.json and of transformers differ, or might.
EDGES_OF_SPACE = ["a ", "a  ", " ", "a\n", " a", "a <mask> b", "<mask> ", "x\u0085y", "a\u3000", "▁ a▁", "a </s> b "]


def with_change(spec, change):
    """A copy of `spec` with the values at the given JSON pointers replaced."""
    spec = json.loads(json.dumps(spec))
    for pointer, value in change.items():
        *path, last = [int(part) if part.isdigit() else part for part in pointer.split("/")[1:]]
        node = spec
        for part in path:
            node = node[part]
        node[last] = value
    return spec


def encode(args):
    """Prints one JSON object a text: {id, ids, dense, sparse, colbert}. A line may hold `ids` instead of `text`."""
    checkpoint = Checkpoint(args.directory)
    tokenizer = None
    for text in read_texts(args.texts):
        if "ids" not in text:
            tokenizer = tokenizer or checkpoint.tokenizer(args.max_length)
            text["ids"] = tokenizer.encode(text["text"]).ids
        out = checkpoint.encode(text["ids"], args.dimensions)
        line = {"id": text.get("id"), "ids": text["ids"], "dense": out.get("dense_sliced", out["dense"]).tolist()}
        if "sparse_ids" in out:
            line["sparse"] = dict(zip(out["sparse_ids"].tolist(), out["sparse_weights"].tolist()))
        if "colbert" in out:
            line["colbert"] = out["colbert"].tolist()
        print(json.dumps(line))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("make-models", help="write the tiny random checkpoints")
    command.add_argument("--out", type=Path, default=DATA / "models")
    command.set_defaults(run=lambda args: tiny_models.write_all(args.out))

    command = commands.add_parser("golden", help="write the golden values of the tiny checkpoints")
    command.add_argument("--models", type=Path, default=DATA / "models")
    command.add_argument("--out", type=Path, default=DATA / "golden")
    command.set_defaults(run=golden_models)

    command = commands.add_parser("make-rerankers", help="write the tiny random rerankers")
    command.add_argument("--out", type=Path, default=DATA / "rerankers")
    command.set_defaults(run=lambda args: tiny_models.write_rerankers(args.out))

    command = commands.add_parser("golden-rerank", help="write the golden scores of the tiny rerankers")
    command.add_argument("--models", type=Path, default=DATA / "rerankers")
    command.add_argument("--out", type=Path, default=DATA / "golden")
    command.set_defaults(run=golden_rerank)

    command = commands.add_parser("golden-starter", help="write the golden values of the starter, text level")
    command.add_argument("--model", type=Path, default=STARTER)
    command.add_argument("--texts", type=Path, default=DATA / "texts.jsonl")
    command.add_argument("--out", type=Path, default=DATA / "golden" / "starter.safetensors")
    command.add_argument("--full-rows", type=int, default=24, help="texts up to this many tokens keep all ColBERT rows")
    command.set_defaults(run=golden_starter)

    command = commands.add_parser("tokenizer-ids", help="write the ids of the full XLM-R tokenizer")
    command.add_argument("--tokenizer", type=Path, default=DATA / "xlmr-tokenizer.json.gz")
    command.add_argument("--texts", type=Path, default=DATA / "texts.jsonl")
    command.add_argument("--out", type=Path, default=DATA / "golden" / "tokenizer_ids.json")
    command.set_defaults(run=golden_tokenizer)

    command = commands.add_parser("sentencepiece-ids", help="write the ids of XLM-R's SentencePiece model by transformers")
    command.add_argument("--tokenizer", type=Path, default=DATA / "xlmr-tokenizer.json.gz")
    command.add_argument("--texts", type=Path, default=DATA / "texts.jsonl")
    command.add_argument("--out", type=Path, default=DATA / "golden" / "sentencepiece_ids.json")
    command.set_defaults(run=golden_sentencepiece)

    command = commands.add_parser("encode", help="print the reference's embeddings of any checkpoint as JSONL")
    command.add_argument("directory", type=Path)
    command.add_argument("--texts", type=Path, required=True, help='JSONL: {"id", "text"} or {"id", "ids"}')
    command.add_argument("--max-length", type=int)
    command.add_argument("--dimensions", type=int)
    command.set_defaults(run=encode)

    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    sys.exit(main())
