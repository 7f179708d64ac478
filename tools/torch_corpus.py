#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets `torch_pickle`, `torch_file` and `sentencepiece`, which the tests replay too: what PyTorch and
Python's own pickle module really write, sound and malicious. Nothing here runs what it writes.

    tools/torch_corpus.py        # fuzz/corpus/{torch_pickle,torch_file,sentencepiece}

Needs torch. A name begins with what must come of the file: `good-` or `bad-`.
"""

import builtins
import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch

import tiny_models

CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus"


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class WithState(Calls):
    """The same, then BUILD with `state`."""

    def __init__(self, function, arguments, state):
        self.reduced = (function, arguments, state)


class Plain:
    """Pickles to NEWOBJ and BUILD."""

    def __init__(self):
        self.attribute = 1


def saved(value, protocol=2):
    """A file of torch.save, and the pickle in it."""
    out = io.BytesIO()
    torch.save(value, out, pickle_protocol=protocol)
    return out.getvalue(), zipfile.ZipFile(out).read("archive/data.pkl")


def malicious():
    tensor = torch.ones(2)
    yield "os-system", Calls(os.system, "echo pwned")
    yield "eval", Calls(eval, "__import__('os').system('echo pwned')")
    yield "exec", Calls(builtins.exec, "raise SystemExit")
    yield "getattr", Calls(getattr, "", "join")
    yield "in-a-state-dict", collections.OrderedDict(weight=tensor, bias=Calls(os.system, "echo pwned"))
    yield "as-a-key", {Calls(str, "weight"): tensor}
    yield "ordered-dict-with-arguments", Calls(collections.OrderedDict, [("weight", tensor)])
    yield "module", torch.nn.Linear(1, 1)
    yield "new-object", Plain()
    yield "set-state", WithState(collections.OrderedDict, (), {"__class__": 1, "_metadata": 2})
    yield "set-state-of-a-list", WithState(collections.OrderedDict, (), [1, 2])
    yield "bytes", {"weight": b"bytes"}
    yield "set", {1, 2}
    yield "a-list", [tensor]
    yield "no-tensors", {"net": {"weight": tensor}}
    yield "two-models", {"state_dict": {"weight": tensor}, "model": {"weight": tensor}}
    yield "negated", {"weight": torch.tensor(1j).conj().imag.reshape(1)}
    yield "backward-hooks", {"weight": hooked()}
    deep = ()
    for _ in range(100):
        deep = (deep, 1, 2, 3)
    yield "deep", deep


def from_training():
    """What torch.load(weights_only=True) reads beside plain state dicts, and only lists of tensors are in."""
    tensor = torch.ones(2)
    parameter = torch.nn.Parameter(tensor.clone())
    noted = torch.nn.Parameter(tensor.clone())
    noted.note = "an attribute"
    with_note = tensor.clone()
    with_note.note = 1
    yield "parameter", {"weight": parameter, "bias": noted, "other": with_note}
    yield "nested", {"state_dict": {"weight": tensor}}
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    linear = torch.nn.Linear(3, 2)
    yield "checkpoint", {
        "epoch": 3, "loss": 0.5, "rng": torch.arange(4, dtype=torch.uint8), "device": torch.device("cpu"),
        "dtype": torch.float16, "shape": tensor.shape, "steps": {0: tensor}, "optimizer": optimizer.state_dict(),
        "model": {"module": linear.state_dict()},
    }
    yield "unsigned", {"weight": tensor, "ids": torch.tensor([0, 1, 2], dtype=torch.uint16)}
    yield "plain", {
        "seen": {1, 2}, "none": set(), "hash": b"bytes", "buffer": bytearray(b"bytes"), "phase": 1j, "seed": 2**80, "less": -(2**70),
        "layout": torch.strided, "counts": collections.Counter("aab"), "state_dict": {"weight": tensor},
    }


def of_other_kinds():
    """Tensors that torch.load(weights_only=True) reads, and that hold no plain numbers."""
    yield "sparse", {"weight": torch.eye(2).to_sparse()}
    yield "quantized", {"weight": torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)}
    yield "on-meta", {"weight": torch.ones(2, device="meta")}


def hooked():
    """A tensor whose last argument is not an empty dictionary."""

    class Hooked(torch.Tensor):
        def __reduce_ex__(self, protocol):
            rebuild, arguments = torch.ones(2).__reduce_ex__(protocol)
            return rebuild, (*arguments[:5], collections.OrderedDict(hook=1))

    return torch.ones(2).as_subclass(Hooked)


def by_hand():
    """What no pickler writes."""
    loop = []
    loop.append(loop)
    yield "memo-loop", pickle.dumps(loop, 2)
    same = {}
    same["self"] = same
    yield "dict-in-itself", pickle.dumps(same, 2)
    yield "bomb-of-tuples", b"\x80\x02)" + b"2\x86" * 60 + b"."
    yield "doubling-memo", b"\x80\x02)" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)) + b"."
    yield "marks", b"\x80\x02" + b"(" * 5000 + b"."
    yield "empty-stack", b"\x80\x02R."
    yield "get-nothing", b"\x80\x02h\x07."
    yield "ext", b"\x80\x02\x82\x01."
    yield "inst", b"\x80\x02(ios\nsystem\n."
    yield "obj", b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo."
    yield "persid", b"\x80\x02Pstorage\n."
    yield "stack-global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."
    yield "module-with-dots", b"\x80\x04\x8c\x0btorch._util\x8c\x14s._rebuild_tensor_v2\x93."
    yield "huge-string", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x."
    yield "huge-frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N."
    yield "protocol-0", b"cos\nsystem\n(S'x'\ntR."
    yield "protocol-9", b"\x80\x09N."
    yield "left-over", b"\x80\x02}}."
    yield "behind-the-end", b"\x80\x02}.}"
    yield "empty", b""


def legacy(value):
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False)
    return out.getvalue()[:64]  # what follows differs from run to run


def deflated(raw):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for entry in zipfile.ZipFile(io.BytesIO(raw)).infolist():
            content = zipfile.ZipFile(io.BytesIO(raw)).read(entry.filename)
            file.writestr(zipfile.ZipInfo(entry.filename), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def script(how=zipfile.ZIP_STORED):
    """What torch.jit.save writes; it deflates the code."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(zipfile.ZipInfo("m/data.pkl"), b"\x80\x02}.")
        file.writestr(zipfile.ZipInfo("m/code/__torch__.py"), b"class M(Module):\n", how)
    return out.getvalue()


def write(target, files):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def main():
    torch.manual_seed(1)
    linear = torch.nn.Linear(3, 2).half().state_dict()
    odd = {"t": torch.arange(6.0).view(2, 3).t(), "ids": torch.arange(3), "e": torch.ones(1).expand(4)}
    head = {"weight": torch.nn.Parameter(torch.zeros(1, 24)), "bias": torch.nn.Parameter(torch.full((1,), 0.5))}
    pickles = {f"bad-{name}": saved(value)[1] for name, value in [*malicious(), *of_other_kinds()]}
    pickles |= {f"bad-{name}": content for name, content in by_hand()}
    pickles |= {f"good-linear-{protocol}": saved(linear, protocol)[1] for protocol in (2, 3, 4, 5)}
    pickles["good-odd"] = saved(odd)[1]
    pickles |= {f"good-{name}": saved(value)[1] for name, value in from_training()}
    write("torch_pickle", pickles)

    good = saved(linear)[0]
    write("torch_file", {
        "good-linear": good, "good-odd": saved(odd)[0], "good-parameters": saved(head)[0], "bad-cut": good[: len(good) // 2], "bad-legacy": legacy(linear),
        "bad-deflated": deflated(good), "bad-script": script(), "bad-script-deflated": script(zipfile.ZIP_DEFLATED),
        "bad-gguf": b"GGUF\x03\0\0\0" + bytes(24),
        "bad-html": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        "bad-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "bad-checksum": good.replace(b"_metadata", b"-metadata"), "bad-empty": b"",
        "bad-os-system": saved(dict(malicious())["os-system"])[0],
    })

    model = tiny_models.sentencepiece(60)
    write("sentencepiece", {
        "good-small": model, "bad-cut": model[:-3], "bad-bpe": model.replace(b"\x12\x02\x18\x01", b"\x12\x02\x18\x02"),
        "bad-no-pieces": b"\x12\x02\x18\x01", "bad-order": model.replace(b"<unk>", b"<unq>"),
        "bad-length": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "bad-text": b"not a model",
        "bad-nan": model.replace(struct.pack("<f", -3.0), struct.pack("<f", float("nan"))),
    })


if __name__ == "__main__":
    main()
