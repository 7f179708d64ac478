"""Tiny random checkpoints and their token-id inputs, all from fixed seeds. Used by tools/reference.py."""

import json
import struct
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save_file

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


@dataclass(frozen=True)
class Spec:
    """What a tiny checkpoint looks like."""

    seed: int
    hidden: int
    heads: int
    layers: int
    ffn: int
    vocab: int
    dtype: torch.dtype = F32
    eps: float = 1e-5
    positions: int = 522  # 520 tokens: position ids start at 2
    prefix: str = ""  # before every encoder tensor
    head_files: str | None = "main"  # where the sparse and ColBERT heads are: "main", "own", or None
    head_dtype: torch.dtype | None = None
    colbert_dim: int | None = None
    sparse_bias: float = 0.0  # chosen so that about half of the lexical weights are above 0
    shards: int = 1
    extras: bool = False  # tensors that real checkpoints carry and nobody needs
    q4: bool = False  # matrices as the starter's 4-bit blocks
    norm_dtype: torch.dtype | None = None
    modules: tuple = ()  # of modules.json: "cls" or "mean", ("dense", out_features), "normalize"
    torch_files: bool = False  # weights as torch.save writes them (.bin, .pt), the tokenizer as a SentencePiece model
    odd_storages: bool = False  # tensors that are transposed, strided, expanded, or share a storage
    protocol: int = 2  # of pickle, for torch_files


MODELS = {
    # Head size 32; heads in the main file, with the pooler and position_ids of older checkpoints.
    "f32-h64": Spec(11, 64, 2, 2, 128, 300, sparse_bias=0.25, extras=True),
    # Head size 64; everything F16, heads in files of their own.
    "f16-h128": Spec(12, 128, 2, 3, 256, 200, sparse_bias=0.75, dtype=F16, head_files="own"),
    # Nothing is a multiple of 8: head size 20, ffn 100, vocabulary 157.
    "bf16-h60": Spec(13, 60, 3, 2, 100, 157, sparse_bias=0.25, dtype=BF16, eps=1e-12),
    # Two shards, every name prefixed, F16 heads beside F32 weights, ColBERT narrower than the states.
    "sharded-h96": Spec(14, 96, 3, 2, 200, 256, prefix="roberta.", shards=2, head_files="own", head_dtype=F16,
                        colbert_dim=40, sparse_bias=-0.5, extras=True),
    # No heads: sparse and ColBERT must be refused. Norms in F32 beside F16 matrices.
    "noheads-h64": Spec(15, 64, 4, 2, 96, 150, dtype=F16, norm_dtype=F32, eps=1e-12, head_files=None),
    # sentence-transformers: mean pooling, a projection to another width, normalised.
    "mean-dense-h64": Spec(16, 64, 2, 2, 128, 150, dtype=F16, head_files=None,
                           modules=("mean", ("dense", 40), "normalize")),
    # sentence-transformers without Normalize: the dense vector keeps its length.
    "unnormalized-h64": Spec(17, 64, 2, 2, 128, 150, dtype=BF16, head_files=None, modules=("cls",)),
    # The starter's storage: 4-bit blocks, the rest F16.
    "q4-h64": Spec(18, 64, 2, 2, 128, 320, sparse_bias=0.375, dtype=F16, q4=True, modules=("mean", "normalize")),
    # BGE-M3's position table, for 8,192 tokens.
    "long-h32": Spec(19, 32, 1, 2, 64, 150, sparse_bias=0.375, dtype=F16, positions=8194),
    # BAAI's own layout: F32 in pytorch_model.bin, F16 heads in .pt files, a SentencePiece model; storages of every kind.
    "torch-h24": Spec(20, 24, 2, 2, 40, 120, sparse_bias=0.25, head_files="own", head_dtype=F16, extras=True,
                      torch_files=True, odd_storages=True),
    # Shards of PyTorch's format, out of DataParallel, pickle protocol 4, a Dense module; BF16.
    "mean-torch-h16": Spec(21, 16, 2, 1, 24, 100, dtype=BF16, prefix="module.roberta.", shards=2, head_files=None,
                           modules=("mean", ("dense", 8), "normalize"), torch_files=True, protocol=4),
}


@dataclass(frozen=True)
class RerankerSpec:
    """What a tiny reranker looks like; the architecture and the files are transformers' own."""

    seed: int
    hidden: int
    heads: int
    layers: int
    ffn: int
    vocab: int
    dtype: torch.dtype
    positions: int
    gain: float  # of the last layer, and its bias: so that logits lie on both sides of 0, some of them far out
    bias: float


RERANKERS = {
    # Nothing is a multiple of 32; 520 tokens, more than the default of 512.
    "reranker-h48": RerankerSpec(31, 48, 2, 2, 96, 380, F16, 522, 14.0, 4.0),
}
LANGUAGES = "我喜欢阅读书籍天气很好北京是中国的首都ですのはкошасидтнвле한국어안녕كتابقطةשלוםΑθήναहिन्दीğışłő"


# --- inputs ---


def cases(spec):
    """Name to token ids. Draws are skewed, so that ids repeat within a text."""
    rng = np.random.default_rng(spec.seed)
    mask = spec.vocab - 1

    def text(n):
        inner = 4 + (rng.random(n - 2) ** 2 * (spec.vocab - 4)).astype(int)
        return [0, *inner.tolist(), 2]

    if spec.positions > 8192:
        long = text(8192)
        for at, special in ((5, 0), (100, 2), (2000, 3), (4000, mask), (8000, 2)):
            long[at] = special
        return {"n2": [0, 2], "n17": text(17), "n8192": long}
    return {
        **{f"n{n}": text(n) for n in (2, 3, 17, 128, 513)},
        "specials": [0, 5, mask, 3, 7, 0, 2, 9, 3, 2, 5, mask, 5, 2],
        # <pad> inside: attended, position 1, and the tokens after it do not count it.
        "pad": [0, 8, 1, 9, 1, 1, 10, 8, 2],
    }


def rerank_cases():
    """(name, query, document, max_length): pairs for the rerankers; None for the default of 512."""
    query, document = "what is a panda?", "The giant panda is a bear species that lives in China."
    words = "the cat sat on a mat and read one more old book about trees in the rain. "
    return [
        ("plain", query, document, None),
        ("other", query, "hi", None),
        ("swapped", document, query, None),
        ("same", query, query, None),
        ("chinese", "我喜欢阅读书籍", "I enjoy reading books", None),
        ("chinese-both", "北京是中国的首都", "中国的首都是北京", None),
        ("russian", "кошка сидит на столе", "The cat sits on the table.", None),
        ("mixed", "天気です 한국어 كتاب", "שלום Αθήνα हिन्दी ğışłő 안녕", None),
        ("empty-query", "", document, None),
        ("empty-document", query, "", None),
        ("empty-both", "", "", None),
        ("spaces", "  what   is\u3000that ", " \t\n ", None),
        # The special tokens that are written out become special tokens, as for the reference.
        ("specials", "a <mask> b", "c </s> d <s> e <pad> f", None),
        ("unknown", "𐍈𐍉𐍊 ☃", "☃☃ snow", None),
        # Both sides of the cut, and at it: the pair has 43 tokens.
        *((f"cut-{n}", "is it a cat?", "yes, it is a big old black cat on a mat.", n) for n in (17, 18, 31, 41, 42, 43, 44, 64)),
        # The query is longer than three quarters.
        *((f"long-query-{n}", words, document, n) for n in (17, 19, 24, 33, 64)),
        ("long-query-empty-document", words * 3, "", 32),
        ("long-query", words * 12, document, None),
        ("long-document", query, words * 12, None),
        ("long-both", words * 12, "我喜欢阅读书籍" * 100, None),
        ("long-document-520", query, words * 12, 520),
    ]


# --- checkpoints ---


def shapes(spec):
    """(name, shape) of every tensor of the encoder, in file order."""
    h, f = spec.hidden, spec.ffn

    def norm(name):
        return [(f"{name}.LayerNorm.weight", (h,)), (f"{name}.LayerNorm.bias", (h,))]

    def linear(name, out, inputs):
        return [(f"{name}.weight", (out, inputs)), (f"{name}.bias", (out,))]

    yield "embeddings.word_embeddings.weight", (spec.vocab, h)
    yield "embeddings.position_embeddings.weight", (spec.positions, h)
    yield "embeddings.token_type_embeddings.weight", (1, h)
    yield from norm("embeddings")
    for layer in range(spec.layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            yield from linear(f"{at}.attention.self.{part}", h, h)
        yield from linear(f"{at}.attention.output.dense", h, h)
        yield from norm(f"{at}.attention.output")
        yield from linear(f"{at}.intermediate.dense", f, h)
        yield from linear(f"{at}.output.dense", h, f)
        yield from norm(f"{at}.output")
    if spec.extras:
        yield from linear("pooler.dense", h, h)


def random_tensor(name, shape, generator):
    """Values spread as in trained models: norms around 1, biases that matter, states that differ from token to token
    (what all tokens share, positions and the feed-forward part, is smaller than what tells them apart)."""
    values = torch.randn(shape, generator=generator)
    if name.endswith("LayerNorm.weight"):
        return 1 + 0.2 * values
    if name.endswith("bias"):
        return 0.1 * values
    if "embeddings" in name:
        return (0.3 if "word" in name else 0.1) * values
    gain = 1.6 if "query" in name or "key" in name else 0.8
    return gain * values / shape[-1] ** 0.5


def quantize_q4_0(weights):
    """F32 [rows, cols] to 4-bit blocks, U8 [rows, cols / 32, 18]."""
    rows, cols = weights.shape
    blocks = weights.numpy().reshape(rows, cols // 32, 32)
    at = np.abs(blocks).argmax(-1)[..., None]
    scale = (np.take_along_axis(blocks, at, -1) / -8).astype(np.float16)
    levels = np.clip(np.round(blocks / scale.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = levels[..., :16] | levels[..., 16:] << 4
    return torch.from_numpy(np.concatenate([scale.view(np.uint8), packed], axis=-1))


def store(spec, name, values):
    """The tensor as the file holds it."""
    is_table_of_positions = "position" in name or "token_type" in name
    if spec.q4 and values.ndim == 2 and not is_table_of_positions and "linear" not in name:
        return quantize_q4_0(values)
    if spec.norm_dtype and "LayerNorm" in name:
        return values.to(spec.norm_dtype)
    return values.to(spec.dtype)


def write_json(path, value, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, **options) + "\n", "utf-8")


def write_rerankers(out):
    for name, spec in RERANKERS.items():
        write_reranker(out / name, spec)
        for file in (out / name).rglob("*.safetensors"):
            file.chmod(0o644)
        print(f"{name}: {sum(f.stat().st_size for f in (out / name).rglob('*') if f.is_file())} bytes")


def write_reranker(directory, spec):
    """A reranker as transformers saves it: its names, its config.json."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    config = XLMRobertaConfig(
        vocab_size=spec.vocab, hidden_size=spec.hidden, num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads, intermediate_size=spec.ffn, max_position_embeddings=spec.positions,
        type_vocab_size=1, layer_norm_eps=1e-5, bos_token_id=0, pad_token_id=1, eos_token_id=2, num_labels=1)
    model = XLMRobertaForSequenceClassification(config)
    generator = torch.Generator().manual_seed(spec.seed)
    state = {}
    for name, value in model.state_dict().items():
        state[name] = random_tensor(name, value.shape, generator) if value.is_floating_point() else value
        if name == "classifier.out_proj.weight":
            state[name] *= spec.gain
        if name == "classifier.out_proj.bias":
            state[name] = torch.tensor([spec.bias])
    model.load_state_dict(state, strict=True)
    model.to(spec.dtype).save_pretrained(directory)
    write_json(directory / "tokenizer.json", tokenizer(spec.vocab, LANGUAGES))


def write_all(out):
    for name, spec in MODELS.items():
        write(out / name, spec)
        for file in (out / name).rglob("*.safetensors"):
            file.chmod(0o644)  # the writer leaves them to their owner alone
        print(f"{name}: {sum(f.stat().st_size for f in (out / name).rglob('*') if f.is_file())} bytes")


def write(directory, spec):
    """One checkpoint in Hugging Face layout."""
    generator = torch.Generator().manual_seed(spec.seed)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", {
        "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta",
        "vocab_size": spec.vocab, "hidden_size": spec.hidden, "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads, "intermediate_size": spec.ffn, "hidden_act": "gelu",
        "max_position_embeddings": spec.positions, "type_vocab_size": 1, "layer_norm_eps": spec.eps,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "position_embedding_type": "absolute",
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
    }, indent=2)
    if spec.torch_files:
        (directory / "sentencepiece.bpe.model").write_bytes(sentencepiece(spec.vocab))
    else:
        write_json(directory / "tokenizer.json", tokenizer(spec.vocab))

    tensors = {}
    for name, shape in shapes(spec):
        values = random_tensor(name, shape, generator)
        if spec.odd_storages and name.endswith("layer.1.output.LayerNorm.bias"):
            values.fill_(0.125)  # one element, expanded
        tensors[spec.prefix + name] = store(spec, name, values)
    if spec.extras:
        tensors[spec.prefix + "embeddings.position_ids"] = torch.arange(spec.positions).unsqueeze(0)

    widths = {"sparse_linear": 1, "colbert_linear": spec.colbert_dim or spec.hidden}
    for head, out_features in widths.items() if spec.head_files else ():
        values = {
            f"{head}.weight": random_tensor("", (out_features, spec.hidden), generator),
            f"{head}.bias": random_tensor("bias", (out_features,), generator),
        }
        if head == "sparse_linear":
            values[f"{head}.bias"] = torch.tensor([spec.sparse_bias])
        values = {name: value.to(spec.head_dtype or spec.dtype) for name, value in values.items()}
        if spec.torch_files:
            write_head(directory / f"{head}.pt", values[f"{head}.weight"], values[f"{head}.bias"])
        elif spec.head_files == "own":
            save_file(values, directory / f"{head}.safetensors", metadata={"format": "pt"})
        else:
            tensors |= values

    write_weights(directory, spec, tensors)
    write_modules(directory, spec, generator)


def write_head(path, weight, bias):
    """A head as BAAI saves it: the state dict of a Linear, with bare names and the `_metadata` that modules add."""
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    linear.load_state_dict({"weight": weight, "bias": bias})
    torch.save(linear.state_dict(), path)


def with_odd_storages(tensors):
    """The same values in storages of every kind that PyTorch saves."""
    odd = dict(tensors)
    for name, value in tensors.items():
        if name.endswith("self.query.weight"):
            # Three views of one storage.
            parts = [name.replace("query", part) for part in ("query", "key", "value")]
            fused = torch.cat([tensors[part] for part in parts])
            odd |= dict(zip(parts, fused.split(len(value))))
        elif name.endswith("attention.output.dense.weight"):
            odd[name] = value.t().contiguous().t()  # column-major
        elif name.endswith("intermediate.dense.weight"):
            odd[name] = torch.stack([value, -value], dim=-1)[..., 0]  # every second element
        elif name.endswith("word_embeddings.weight"):
            odd[name] = torch.cat([torch.zeros(3, value.shape[1]), value])[3:]  # from an offset on
        elif name.endswith("layer.1.output.LayerNorm.bias"):
            odd[name] = torch.tensor([0.125]).expand(len(value))  # one element for all
    return odd


def write_torch(directory, spec, tensors):
    """pytorch_model.bin, or its shards and their index."""
    if spec.odd_storages:
        tensors = with_odd_storages(tensors)
    if spec.shards == 1:
        torch.save(OrderedDict(tensors), directory / "pytorch_model.bin", pickle_protocol=spec.protocol)
        return
    write_shards(directory, spec, tensors, "pytorch_model", "bin",
                 lambda part, path: torch.save(part, path, pickle_protocol=spec.protocol))


def write_weights(directory, spec, tensors):
    if spec.torch_files:
        write_torch(directory, spec, tensors)
        return
    # One entry at most: the writer orders several at random, and the files would differ from run to run.
    metadata = {"trivec.q4_0": "1"} if spec.q4 else {"format": "pt"}
    if spec.shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata=metadata)
        return
    write_shards(directory, spec, tensors, "model", "safetensors",
                 lambda part, path: save_file(part, path, metadata=metadata))


def write_shards(directory, spec, tensors, stem, ending, save):
    names = list(tensors)
    weight_map, total = {}, sum(t.nbytes for t in tensors.values())
    for shard in range(spec.shards):
        file = f"{stem}-{shard + 1:05}-of-{spec.shards:05}.{ending}"
        part = names[len(names) * shard // spec.shards : len(names) * (shard + 1) // spec.shards]
        save({name: tensors[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(directory / f"{stem}.{ending}.index.json", index, indent=2)


def write_modules(directory, spec, generator):
    """modules.json and its folders, as sentence-transformers saves them."""
    if not spec.modules:
        return
    modules = [("", "Transformer")]
    for module in spec.modules:
        at = len(modules)
        if module in ("cls", "mean"):
            modules.append((f"{at}_Pooling", "Pooling"))
            write_json(directory / modules[-1][0] / "config.json", {
                "word_embedding_dimension": spec.hidden, "pooling_mode_cls_token": module == "cls",
                "pooling_mode_mean_tokens": module == "mean", "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }, indent=2)
        elif module == "normalize":
            modules.append((f"{at}_Normalize", "Normalize"))
        else:
            modules.append((f"{at}_Dense", "Dense"))
            folder, out_features = directory / modules[-1][0], module[1]
            write_json(folder / "config.json", {
                "in_features": spec.hidden, "out_features": out_features, "bias": True,
                "activation_function": "torch.nn.modules.linear.Identity",
            }, indent=2)
            tensors = {
                "linear.weight": random_tensor("", (out_features, spec.hidden), generator),
                "linear.bias": random_tensor("bias", (out_features,), generator),
            }
            if spec.torch_files:
                torch.save(tensors, folder / "pytorch_model.bin")
            else:
                save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(directory / "modules.json", [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(modules)
    ], indent=2)


def vocabulary(vocab, more=""):
    """Pieces with scores, so many that with the specials and <mask> they are `vocab`: single characters (`more` among them), then
    pairs of letters."""
    letters = "eainostrludmcphvgbfkzwyjxq"
    pieces = ["▁", *letters, *"ETAOINSR.,!?'-0123456789äöüéèñçß", *(f"▁{a}" for a in letters)]
    pieces += [c for c in dict.fromkeys(more) if c not in pieces]
    pieces += [a + b for a in letters for b in letters]
    return [[p, -3.0 - 0.03 * i] for i, p in enumerate(pieces[: vocab - len(SPECIALS) - 1])]


def sentencepiece(vocab):
    """The same vocabulary as a SentencePiece model: <unk>, <s>, </s>, then the pieces; transformers shifts the ids."""
    return sentencepiece_model(vocabulary(vocab), b"")


def sentencepiece_model(pieces, charsmap):
    """A SentencePiece unigram model, in protobuf's wire format."""

    def varint(value):
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def field(number, value):
        if isinstance(value, bytes):
            return varint(number << 3 | 2) + varint(len(value)) + value
        if isinstance(value, float):
            return varint(number << 3 | 5) + struct.pack("<f", value)
        return varint(number << 3) + varint(value)

    model = []
    first = [("<unk>", 0.0, field(3, 2)), ("<s>", 0.0, field(3, 3)), ("</s>", 0.0, field(3, 3))]
    for piece, score, kind in first + [(piece, score, b"") for piece, score in pieces]:
        model.append(field(1, field(1, piece.encode()) + field(2, score) + kind))
    trainer = field(3, 1)  # unigram
    name = field(1, b"nmt_nfkc") + field(2, charsmap) if charsmap else field(1, b"identity")
    return b"".join(model) + field(2, trainer) + field(3, name + field(3, 1) + field(4, 1) + field(5, 1))


def tokenizer(vocab, more=""):
    """A tokenizer.json of XLM-R's form with `vocab` pieces, `more` characters among them."""
    entries = [[s, 0.0] for s in SPECIALS] + vocabulary(vocab, more) + [["<mask>", 0.0]]
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": s, "lstrip": s == "<mask>", **flags}
             for i, (s, _) in enumerate(entries) if s in SPECIALS or s == "<mask>"]
    # A charsmap with no entries: 256 empty units of the double array. The full one would be 300 kB a model.
    charsmap = b64encode(struct.pack("<I", 1024) + bytes(1024)).decode()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}

    def special(s):
        return {"SpecialToken": {"id": s, "type_id": 0}}

    def text(which):
        return {"Sequence": {"id": which, "type_id": 0}}

    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": charsmap},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("<s>"), text("A"), special("</s>")],
            "pair": [special("<s>"), text("A"), special("</s>"), special("</s>"), text("B"), special("</s>")],
            "special_tokens": {
                s: {"id": s, "ids": [SPECIALS.index(s)], "tokens": [s]} for s in ("<s>", "</s>")
            },
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": entries, "byte_fallback": False},
    }
