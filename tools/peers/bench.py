"""Measures trivec and other engines in turn on the same weights and prints the tables; README.md says what and how."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil

import common
import engines
import report

SETTLE_S = 0.3  # between two engines: threads that spin after a run have stopped by then
SPARE_BYTES = 3 << 30  # what a worker may take on top of twice its model


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engines", default="onnxruntime,openvino,ctranslate2,llama")
    parser.add_argument("--shapes", default="1x8,1x16,1x32,1x128,1x512,8x128,1x2048", help="texts x tokens, ...")
    parser.add_argument("--work", type=Path, required=True, help="where converted models are kept")
    parser.add_argument("--json", type=Path, help="write all raw times there")
    parser.add_argument("--trivec", help="the binary")
    parser.add_argument("--no-trivec", action="store_true", help="the other engines alone; needs --weights-dir")
    parser.add_argument("--weights-dir", type=Path, help="a Hugging Face directory in place of trivec's export")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mixed-texts", type=int, default=256, help="0 leaves the mixed set out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def note(*words):
    print(*words, file=sys.stderr, flush=True)


def trivec_json(args, *arguments):
    """What a `trivec bench` command prints, or None where there is no such command."""
    if args.no_trivec:
        return None
    run = subprocess.run([args.trivec, "bench", *arguments], capture_output=True, text=True)
    try:
        return json.loads(run.stdout)
    except ValueError:
        note(f"trivec bench {' '.join(arguments)}: {run.stderr.strip()[:200] or 'no JSON'}")
        return None


def mixed_lengths(args):
    lengths = trivec_json(args, "--lengths")
    if isinstance(lengths, dict):
        lengths = lengths["lengths"]
    if not lengths:
        uniform = np.random.default_rng(7).uniform(np.log(8), np.log(1024), 256)
        lengths = np.exp(uniform).astype(int).tolist()
    # A part of the set keeps its spread of lengths.
    return lengths if args.mixed_texts >= len(lengths) else lengths[: args.mixed_texts]


class Session:
    def __init__(self, args):
        self.args, self.left_out = args, {}
        self.shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes.split(",")]
        self.lengths = mixed_lengths(args) if args.mixed_texts else []
        self.max_length = max([length for _, length in self.shapes] + self.lengths)
        self.logs = args.work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    def drop(self, row, why):
        """Leaves a row out, with the reason; what it had measured goes too."""
        note(f"{row.name}: left out: {why}")
        self.left_out[row.name] = str(why)
        if row.process:
            row.process.close()
            row.process = None

    def each(self, rows, action):
        for row in rows:
            if row.name not in self.left_out:
                try:
                    action(row)
                except engines.Failed as why:
                    self.drop(row, why)

    def prepare(self, row, checkpoint):
        note(f"{row.name}: preparing")
        engines.prepare(row, checkpoint, self.args.work, self.args.trivec, self.logs / f"{row.name}-prepare.log")

    def start(self, row):
        log = self.logs / f"{row.name}.log"
        row.process = engines.Process(row, self.args.trivec, self.args.threads, self.max_length, log)

    def stop(self, row):
        row.rss_mb = max(row.rss_mb, row.process.peak_mb())
        row.process.close()
        row.process = None

    def measure_shape(self, rows, shape):
        runs = {}

        def first(row):
            """Warms up and finds how many runs make a round of about half a second."""
            time.sleep(SETTLE_S)
            ms = row.process.ask({"shape": shape, "runs": 1})[0]
            if ms < 1000:
                ms = min(row.process.ask({"shape": shape, "runs": 2}))
            runs[row] = max(1, min(20, round(500 / ms)))

        def measure(row):
            """One run more than counted: the first finds the caches as the engine before left them."""
            time.sleep(SETTLE_S)
            extra = 1 if runs[row] > 1 else 0
            ms = row.process.ask({"shape": shape, "runs": runs[row] + extra})[extra:]
            row.shapes.setdefault(shape, []).extend(ms)

        self.each(rows, first)
        for _ in range(self.args.rounds):
            self.each(rows, measure)
        line = ", ".join(f"{row.name} {median(row.shapes[shape]):.1f}" for row in rows if shape in row.shapes)
        note(f"{shape[0]}x{shape[1]} ms: {line}")

    def measure_mixed(self, rows):
        """Peers with batches of 1 and 8, of 32 where 8 helped, and the best again; trivec, which has no such choice, each
        time with them."""

        def one(row, batch):
            time.sleep(SETTLE_S)
            request = {"lengths": self.lengths, "runs": 1}
            if not row.is_trivec:
                request["batch"] = batch
            row.mixed.setdefault(batch, []).extend(row.process.ask(request, seconds=7200))
            note(f"mixed: {row.name} batches of {batch}: {row.mixed[batch][-1] / 1000:.1f} s")

        def best(row):
            return min(row.mixed, key=lambda batch: min(row.mixed[batch]))

        self.each(rows, lambda row: one(row, 1))
        self.each(rows, lambda row: one(row, 8))
        self.each(rows, lambda row: one(row, 32) if best(row) == 8 and not row.is_trivec else None)
        self.each(rows, lambda row: one(row, best(row)))

    def measure(self, rows, trivec, vocabulary):
        """Groups that fit in memory together, each beside trivec."""
        texts = common.random_ids(16, 32, vocabulary).tolist()

        def cls(row):
            row.cls = np.array(row.process.ask({"ids": texts}, "cls"))

        rows = list(rows)
        while True:
            group = []
            self.each(trivec, self.start)
            for row in list(rows):
                need = 2 * engines.bytes_of(row.model) + SPARE_BYTES
                if group and psutil.virtual_memory().available < need:
                    note(f"{row.name}: waits for memory")
                    continue
                rows.remove(row)
                self.each([row], self.start)
                if row.process:
                    self.each([row], lambda r: r.process.ask({"shape": self.largest(), "runs": 1}))
                group.append(row)
            group = [*trivec, *group]
            self.each(group, cls)
            for shape in self.shapes:
                self.measure_shape(group, shape)
            if self.lengths:
                self.measure_mixed(group)
            self.each(group, self.stop)
            if not rows:
                return

    def largest(self):
        return max(self.shapes, key=lambda shape: shape[0] * shape[1])


def main():
    args = options()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.no_trivec and not args.weights_dir:
        sys.exit("--no-trivec needs --weights-dir")
    if not args.no_trivec and not args.trivec:
        sys.exit("--trivec BINARY, or --no-trivec with --weights-dir")
    session = Session(args)
    chosen = args.engines.split(",")
    peers = [row for row in engines.PEERS if row.engine in chosen]
    for name in set(chosen) - {row.engine for row in engines.PEERS}:
        session.left_out[name] = "no such engine"
    trivec = [] if args.no_trivec else engines.TRIVEC
    try:
        checkpoint = args.weights_dir or engines.export(args.trivec, args.work, session.logs / "export.log")
    except engines.Failed as why:
        sys.exit(f"trivec bench --export: {why}")
    vocabulary = common.Checkpoint(checkpoint).vocabulary
    session.each([*trivec, *peers], lambda row: session.prepare(row, checkpoint))
    if trivec:
        version = subprocess.run([args.trivec, "--version"], capture_output=True, text=True).stdout.split()
        for row in trivec:
            row.version = version[-1] if version else ""
    prepared, ours = ([row for row in rows if row.name not in session.left_out] for rows in (peers, trivec))
    session.measure(prepared, ours, vocabulary)

    rows = [row for row in [*trivec, *peers] if row.name not in session.left_out]
    limits = trivec_json(args, "--probe")
    report.write(rows, session.shapes, session.lengths, limits, session.left_out, args)


if __name__ == "__main__":
    main()
