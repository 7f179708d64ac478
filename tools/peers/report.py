"""The tables of a measurement, and its raw times."""

import json
import platform
from pathlib import Path
from statistics import median

import numpy as np

LAYERS, HIDDEN = 24, 1024
LAYER_WEIGHTS = LAYERS * 12 * HIDDEN * HIDDEN


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def limit_ms(shape, row, limits):
    """The shape cannot be faster than its layer weights are read once, nor than its operations at the peak rate."""
    texts, length = shape
    operations = texts * (2 * length * LAYER_WEIGHTS + 4 * length * length * HIDDEN * LAYERS)
    read_s = LAYER_WEIGHTS * row.bits / 8 / (1e9 * limits["read_gb_s"])
    return 1000 * max(read_s, operations / (1e9 * limits[row.peak]))


def cosine(row, reference):
    if reference is None or row.cls is None:
        return "-"
    a, b = row.cls, reference.cls
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return f"{cosines.mean():.4f}"


def best_mixed(row):
    """Seconds, and the batch that gave them."""
    return min(((min(times) / 1000, batch) for batch, times in row.mixed.items()), default=None)


def digits(ms):
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def table(head, lines):
    print("| " + " | ".join(head) + " |")
    print("| --- | --- |" + " ---: |" * (len(head) - 2))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def write(rows, shapes, lengths, limits, left_out, args):
    names = [f"{texts}x{length}" for texts, length in shapes]
    medians = {row: {shape: median(row.shapes[shape]) for shape in shapes} for row in rows}
    reference = next((row for row in rows if row.name == "onnxruntime fp32"), None)
    print(f"{cpu_model()}, {args.threads} threads. Median ms of a forward pass, texts x tokens; mixed: {len(lengths)} texts of")
    print(f"{min(lengths, default=0)} to {max(lengths, default=0)} tokens, seconds; cos: mean cosine of CLS vectors with fp32.")
    if limits:
        keys = {"read_gb_s": "GB/s read", "int8_gop_s": "int8 Gop/s", "bf16_gflop_s": "bf16 Gflop/s", "f32_gflop_s": "f32 Gflop/s"}
        print("Limits by `trivec bench --probe`: " + ", ".join(f"{limits[k]:.0f} {unit}" for k, unit in keys.items() if k in limits) + ".")
    print()

    lines = []
    for row in rows:
        mixed = best_mixed(row)
        mixed = "-" if not mixed else f"{mixed[0]:.1f}" + ("" if row.is_trivec else f" (by {mixed[1]})")
        times = [digits(medians[row][shape]) for shape in shapes]
        ends = [mixed, cosine(row, reference), f"{row.load_s:.2f}", f"{row.rss_mb:.0f}"]
        lines.append([f"{row.engine} {row.version}", row.variant, *times, *ends])
    table(["engine", "weights", *names, "mixed s", "cos", "load s", "peak MB"], lines)

    if limits:
        print("Share of the machine's limit (the layers' weights read once, or the operations at the peak rate of the row's arithmetic):\n")
        known = [row for row in rows if limits.get(row.peak) and limits.get("read_gb_s")]
        shares = {row: [f"{100 * limit_ms(s, row, limits) / medians[row][s]:.0f} %" for s in shapes] for row in known}
        table(["engine", "weights", *names], [[row.engine, row.variant, *shares[row]] for row in known])

    peers = [row for row in rows if not row.is_trivec]
    ours = [row for row in rows if row.is_trivec]
    if peers and ours:
        print("Best peer's time / trivec's (over 1: trivec is faster):\n")
        lines = []
        best = {shape: min(peers, key=lambda row: medians[row][shape]) for shape in shapes}
        with_mixed = [row for row in peers if row.mixed]
        fastest = min(with_mixed, key=best_mixed, default=None)
        for row in ours:
            ratios = [f"{medians[best[shape]][shape] / medians[row][shape]:.2f}" for shape in shapes]
            total = f"{best_mixed(fastest)[0] / best_mixed(row)[0]:.2f}" if fastest and row.mixed else "-"
            lines.append(["trivec", row.variant, *ratios, total])
        lines.append(["best peer", "", *(best[shape].name for shape in shapes), fastest.name if fastest else "-"])
        table(["", "weights", *names, "mixed"], lines)

    for name, why in left_out.items():
        print(f"- {name} left out: {why}")
    if args.json:
        raw = {
            "cpu": cpu_model(), "threads": args.threads, "limits": limits, "lengths": lengths, "left_out": left_out,
            "rows": [
                {
                    "engine": row.engine, "version": row.version, "weights": row.variant, "load_s": row.load_s,
                    "peak_mb": row.rss_mb, "cos": cosine(row, reference),
                    "ms": {f"{b}x{n}": times for (b, n), times in row.shapes.items()},
                    "median_ms": {f"{b}x{n}": medians[row][b, n] for b, n in shapes},
                    "mixed_ms": {str(batch): times for batch, times in row.mixed.items()},
                }
                for row in rows
            ],
        }
        args.json.write_text(json.dumps(raw, indent=1) + "\n")
