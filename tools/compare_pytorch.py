#!/usr/bin/env python3
"""trivec beside PyTorch in fp32 on BGE-M3's shape (24 layers, hidden 1024, 8,194 positions; random weights, a short vocabulary).

    cargo build --release && python tools/compare_pytorch.py --lengths 128,512,8192 --threads 2

For each length: PyTorch's forward in this process and the whole `trivec embed` process, less the time of the same process on two tokens
(start, load, scan), interleaved; the median of `--runs`; the largest difference of the dense vectors; trivec's peak memory less the
checkpoint's bytes. Needs torch, transformers, safetensors.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import XLMRobertaConfig, XLMRobertaModel

VOCABULARY = 1000


def checkpoint(directory):
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=8194, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    torch.manual_seed(7)
    model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.03)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict() | {"model_type": "xlm-roberta"}))
    return model


def trivec(binary, directory, ids, threads):
    """(seconds, peak memory in bytes, dense vector) of one process."""
    text = json.dumps({"input_ids": ids}).encode()
    start = time.perf_counter()
    process = subprocess.Popen(
        [binary, "embed", "--model", directory, "--threads", str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(text)
    process.stdin.close()
    # The high-water mark of the process itself: `ru_maxrss` would begin with this one's, which it is forked from.
    peak = [0]
    reader = threading.Thread(target=watch, args=(process.pid, peak))
    reader.start()
    out = process.stdout.read()
    seconds = time.perf_counter() - start
    if process.wait():
        sys.exit(f"trivec ended with {process.returncode}")
    reader.join()
    return seconds, peak[0], torch.tensor(json.loads(out)["dense"])


def watch(pid, peak):
    """Keeps the process's VmHWM in `peak` until it ends."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        if not marks:
            return
        peak[0] = max(peak[0], int(marks[0]) * 1024)
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="128,512,8192")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--binary", default="target/release/trivec")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as directory, torch.inference_mode():
        directory = Path(directory)
        model = checkpoint(directory)
        weights = (directory / "model.safetensors").stat().st_size
        print(f"torch {torch.__version__}, {args.threads} threads, weights {weights / 1e6:.0f} MB")
        base = statistics.median(trivec(args.binary, directory, [0, 2], args.threads)[0] for _ in range(3))
        for length in map(int, args.lengths.split(",")):
            ids = [0] + [4 + (i * 7919) % (VOCABULARY - 4) for i in range(length - 2)] + [2]
            theirs, ours = [], []
            for _ in range(args.runs if length < 4096 else 1):
                start = time.perf_counter()
                tokens = torch.tensor([ids])
                states = model(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
                theirs.append(time.perf_counter() - start)
                seconds, peak, dense = trivec(args.binary, directory, ids, args.threads)
                ours.append(seconds - base)
            expected = torch.nn.functional.normalize(states[0, 0], dim=0)
            t, o = statistics.median(theirs), statistics.median(ours)
            print(
                f"1x{length}: PyTorch {t:.3f} s, trivec {o:.3f} s, ratio {t / o:.2f}; dense differs by {(dense - expected).abs().max():.1e}; "
                f"peak {(peak - weights) / 1e6:.0f} MB beyond the weights",
                flush=True,
            )


if __name__ == "__main__":
    main()
