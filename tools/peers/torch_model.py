"""XLM-RoBERTa's encoder in plain PyTorch from the checkpoint, without the transformers package; for peer_pytorch.py and peer_zentorch.py."""

import os

import common
import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, hidden, ffn, heads, eps):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.norm_attention, self.norm_output = nn.LayerNorm(hidden, eps), nn.LayerNorm(hidden, eps)

    def forward(self, x, mask):
        batch, length, hidden = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm_attention(x + self.out(attended.transpose(1, 2).reshape(batch, length, hidden)))
        return self.norm_output(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.words = nn.Embedding(c.vocabulary, c.hidden)
        self.positions = nn.Embedding(len(c.positions()), c.hidden)
        self.norm = nn.LayerNorm(c.hidden, c.eps)
        self.layers = nn.ModuleList(Layer(c.hidden, c.ffn, c.heads, c.eps) for _ in range(c.layers))

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.positions(torch.arange(ids.shape[1])))
        for layer in self.layers:
            x = layer(x, mask)
        return x


def read(checkpoint):
    c = checkpoint
    with torch.device("meta"):
        model = Encoder(c)

    def tensor(*names):
        return torch.cat([torch.from_numpy(c(name).copy()) for name in names])

    def both(into, *names):
        return {f"{into}.weight": tensor(*(f"{n}.weight" for n in names)), f"{into}.bias": tensor(*(f"{n}.bias" for n in names))}

    state = {
        "words.weight": tensor("embeddings.word_embeddings.weight"),
        "positions.weight": torch.from_numpy(c.positions()),
        **both("norm", "embeddings.LayerNorm"),
    }
    for i in range(c.layers):
        at = f"encoder.layer.{i}"
        state |= both(f"layers.{i}.qkv", *(f"{at}.attention.self.{part}" for part in ("query", "key", "value")))
        state |= both(f"layers.{i}.out", f"{at}.attention.output.dense")
        state |= both(f"layers.{i}.norm_attention", f"{at}.attention.output.LayerNorm")
        state |= both(f"layers.{i}.up", f"{at}.intermediate.dense")
        state |= both(f"layers.{i}.down", f"{at}.output.dense")
        state |= both(f"layers.{i}.norm_output", f"{at}.output.LayerNorm")
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def prepare(checkpoint, directory):
    """Nothing to convert: links to the checkpoint's files."""
    directory.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (directory / name).symlink_to((checkpoint.directory / name).resolve())


def check_capability():
    """PyTorch must have taken the set that it was asked to."""
    wanted = os.environ.get("ATEN_CPU_CAPABILITY")
    taken = torch.backends.cpu.get_cpu_capability().lower()
    if wanted and not taken.startswith(wanted):
        raise RuntimeError(f"PyTorch runs on {taken}, not on {wanted}")


def check_bf16():
    if not torch.cpu._is_avx512_supported():
        raise RuntimeError("bf16 without AVX-512 is emulated, many times slower than fp32")


def forward_of(model, dtype):
    """A compiled model as `common.serve` calls it. Each shape is compiled for itself."""

    def forward(texts, want):
        ids, mask = common.pad(texts)
        ids = torch.from_numpy(ids)
        # What is added to the scores: nothing to a token, the least number to padding.
        added = (1 - torch.from_numpy(mask)[:, None, None, :].to(dtype)) * torch.finfo(dtype).min
        with torch.inference_mode():
            output = model(ids, added)
        return output[:, 0].float().numpy() if want else None

    return forward
