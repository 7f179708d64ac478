#!/usr/bin/env python3
"""Makes crates/train/tests/data/losses.safetensors: batches with random states, and what PyTorch's autograd says of them in f64.

    pip install torch safetensors numpy
    python tools/train_fixtures.py crates/train/tests/data/losses.safetensors

Written from the formulas in docs/training.md with torch's own softmax, cross-entropy and normalise; FlagEmbedding's rules are followed where they
decide (the positions of `<s>`, which pieces are unused, soft-label cross-entropy). The committed file was made with torch 2.15.0.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.set_default_dtype(torch.float64)

D, K, QUERIES = 24, 20, 5
CASES = {
    # name: (temperature, weights, lambda, distill, only sharing, masked, teacher)
    "m3": (0.02, (1.0, 0.3, 1.0), (1.0, 0.1, 1.0), True, False, True, False),
    "recipe": (0.02, (1.0, 0.3, 1.0), (1.0, 1.0, 1.0), True, True, True, False),
    "base": (0.05, (1.0, 0.3, 1.0), (1.0, 0.1, 1.0), False, False, True, False),
    "odd": (0.3, (0.5, 2.0, 0.0), (0.2, 3.0, 0.7), True, True, False, False),
    "outside": (0.05, (1.0, 0.3, 1.0), (1.0, 1.0, 1.0), True, False, True, True),
}


def batch(random):
    """Token counts, ids and states of queries and passages; a query's positive is the passage of its number, then come negatives."""
    def text(most):
        length = int(random.integers(2, most))
        # Few pieces, so that they repeat within and between texts; 3 is <unk>.
        return [0] + [int(x) for x in random.choice([3, 5, 6, 7, 8, 9, 10, 11], length)] + [2]

    queries = [text(6) for _ in range(QUERIES)]
    passages = [text(12) for _ in range(2 * QUERIES)]
    # A pair that shares no piece.
    queries[1], passages[1] = [0, 20, 21, 2], [0, 30, 31, 32, 2]
    # A text of nothing.
    passages[-1] = [0, 2]
    f32 = lambda *shape: torch.tensor(random.normal(size=shape).astype(np.float32).astype(np.float64))
    states = [[f32(len(ids), D) for ids in side] for side in (queries, passages)]
    return queries, passages, states, f32


def lexical(weights, ids):
    """The largest weight of each piece, without <s>, <pad>, </s>, <unk>."""
    out = {}
    for token, weight in zip(ids, weights):
        if token > 3 and (token not in out or weight > out[token]):
            out[token] = weight
    return out


def case(random, temperature, weights, lambdas, distill, only_sharing, masked, teacher):
    queries, passages, (q_states, p_states), f32 = batch(random)
    base = {name: (f32(K, D) * 0.3, f32(K) * 0.1) for name in ("dense", "sparse", "colbert")}
    rows = {"dense": K, "sparse": 1, "colbert": K}
    params = {}
    for name in base:
        scale = 0.15 if name == "sparse" else 1.0
        a = f32(rows[name], K) * 0.2 * scale + (torch.eye(K) if name != "sparse" else 0)
        # The parameters are f32 in the trainer.
        params[name] = (a.float().double().requires_grad_(), (f32(rows[name]) * 0.05 * scale + (0.1 if name == "sparse" else 0)).float().double().requires_grad_())

    def apply(name, x):
        (w, b), (a, bias) = base[name], params[name]
        return (x @ w.T + b) @ a.T + bias

    mean = lambda side: torch.stack([s.mean(dim=0) for s in side])
    dense = [F.normalize(apply("dense", mean(side)), dim=-1) for side in (q_states, p_states)]
    scores = {"dense": dense[0] @ dense[1].T}
    pieces = [[lexical(F.relu(apply("sparse", s))[:, 0], ids) for s, ids in zip(*side)] for side in ((q_states, queries), (p_states, passages))]
    zero = torch.zeros(())
    scores["sparse"] = torch.stack([torch.stack([sum((w * p[t] for t, w in q.items() if t in p), zero) for p in pieces[1]]) for q in pieces[0]])
    vectors = [[F.normalize(apply("colbert", s[1:]), dim=-1) for s in side] for side in (q_states, p_states)]
    scores["colbert"] = torch.stack([torch.stack([(q @ p.T).max(dim=1).values.mean() for p in vectors[1]]) for q in vectors[0]])

    count = len(passages)
    mask = torch.zeros(QUERIES, count, dtype=torch.bool)
    if masked:
        mask[0, 3], mask[2, QUERIES], mask[4, 0] = True, True, True
    sharing = torch.tensor([bool({t for t in q if t > 3} & {t for t in p if t > 3}) for q, p in zip(queries, passages)])
    target = torch.arange(QUERIES)
    s = {name: value / temperature + mask * -1e4 for name, value in scores.items()}
    names = ("dense", "sparse", "colbert")
    ensemble = sum(w * s[name] for w, name in zip(weights, names))
    judged = {}
    if teacher:
        # Rows 0 and 3: the positive and the row's negative, by another model's scores.
        judged = {0: ([0, QUERIES], torch.tensor([2.0, -1.0])), 3: ([3, QUERIES + 3], torch.tensor([0.5, 0.25]))}

    def cross_entropy(x, kept=None):
        per_row = F.cross_entropy(x, target, reduction="none")
        for row, (places, outside) in judged.items():
            extra = -(F.softmax(outside, dim=0) * F.log_softmax(x[row, places], dim=0)).sum()
            per_row = per_row + extra * F.one_hot(torch.tensor(row), QUERIES)
        return per_row.mean() if kept is None else per_row[kept].sum() / kept.sum()

    kept = {name: sharing if name == "sparse" and only_sharing else None for name in names}
    arms = {name: cross_entropy(s[name], kept[name]) for name in names}
    of_ensemble = cross_entropy(ensemble)
    loss = (sum(l * arms[name] for l, name in zip(lambdas, names)) + of_ensemble) / 4
    soft = {name: zero for name in names}
    if distill:
        teaching = F.softmax(ensemble, dim=1).detach()
        for name in names:
            rows_ = -(teaching * F.log_softmax(s[name], dim=1)).sum(dim=1)
            soft[name] = rows_.mean() if kept[name] is None else rows_[kept[name]].sum() / kept[name].sum()
        loss = (loss + sum(l * soft[name] for l, name in zip(lambdas, names)) / 3) / 2
    loss.backward()

    out = {
        "queries": torch.tensor([len(ids) for ids in queries]),
        "passages": torch.tensor([len(ids) for ids in passages]),
        "ids": torch.tensor(sum(queries + passages, [])),
        "states": torch.cat(q_states + p_states),
        "mask": mask.to(torch.uint8),
        "sharing": sharing.to(torch.uint8),
        "loss": torch.stack([loss, of_ensemble, *(arms[n] for n in names), *(soft[n] for n in names)]),
        "options": torch.tensor([temperature, *weights, *lambdas, distill, only_sharing, teacher]),
    }
    for name in names:
        (w, b), (a, bias) = base[name], params[name]
        out |= {f"{name}.w0": w, f"{name}.b0": b, f"{name}.a": a.detach(), f"{name}.bias": bias.detach(), f"{name}.scores": scores[name]}
        out |= {f"{name}.grad_a": a.grad, f"{name}.grad_bias": bias.grad}
    return out


def main():
    random = np.random.default_rng(22)
    tensors = {}
    for name, options in CASES.items():
        for key, value in case(random, *options).items():
            value = value.detach()
            value = value.numpy().astype(np.float32 if value.is_floating_point() else (np.uint8 if value.dtype == torch.uint8 else np.int64))
            tensors[f"{name}.{key}"] = np.ascontiguousarray(value)
    save_file(tensors, sys.argv[1])
    print(f"{sys.argv[1]}: {len(CASES)} batches")


if __name__ == "__main__":
    main()
