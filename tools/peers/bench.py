"""Measures trivec and other engines in turn on the same weights and prints the tables; README.md says what and how."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil

import common
import engines
import machine
import quietness
import record
import report

WORKLOADS = json.loads((record.ROOT / "benches" / "workloads" / "workloads.json").read_text())
SETTLE_S = 0.3  # between two engines: threads that spin after a run have stopped by then
SPARE_BYTES = 3 << 30  # what a worker may take on top of twice its model


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engines", default="onnxruntime,openvino,ctranslate2,llama,pytorch,zentorch")
    parser.add_argument("--shapes", default=",".join(WORKLOADS["passes_beside_peers"]), help="texts x tokens, ...")
    parser.add_argument("--work", type=Path, required=True, help="where converted models are kept")
    parser.add_argument("--json", type=Path, help="write all raw times there")
    parser.add_argument("--trivec", help="the binary")
    parser.add_argument("--no-trivec", action="store_true", help="the other engines alone; needs --weights-dir")
    parser.add_argument("--weights-dir", type=Path, help="a Hugging Face directory in place of trivec's export")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mixed-texts", type=int, default=256, help="0 leaves the mixed set out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa", help="hold every engine that can be held to this instruction set, by trivec's name")
    parser.add_argument("--record", type=Path, default=record.ROOT / "benches" / "record", help="where records are kept")
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--commit", help="the commit that the binary was built from, for the record")
    parser.add_argument("--tries", type=int, default=8, help="how often a disturbed round is measured before the run ends")
    parser.add_argument("--guard", help="a command that gets the machine for a while: it prints a line when it has, and keeps it until "
                        "its standard input ends; run around loading, and around the rounds of each shape")
    parser.add_argument("--prepare-only", action="store_true", help="convert the weights and end")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH", help="an engine's own interpreter")
    parser.add_argument("--llama-built-for", metavar="ISA", help="the set that llama.cpp was compiled for, if not the processor's")
    args = parser.parse_args()
    args.python = dict(pair.split("=", 1) for pair in args.python)
    return args


class Guard:
    """Holds the machine with the command of `--guard`, if there is one."""

    def __init__(self, command):
        self.command = command

    def __enter__(self):
        if self.command:
            self.child = subprocess.Popen(shlex.split(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            if not self.child.stdout.readline():
                sys.exit(f"--guard: {self.command} ended with {self.child.wait()}")

    def __exit__(self, *_):
        if self.command:
            self.child.communicate()


def note(*words):
    print(*words, file=sys.stderr, flush=True)


def trivec_json(args, *arguments):
    """What a `trivec bench` command prints, or None where there is no such command."""
    if args.no_trivec:
        return None
    held = ["--isa", args.isa] if args.isa else []
    run = subprocess.run([args.trivec, "bench", *arguments, *held], capture_output=True, text=True)
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
        self.args, self.left_out, self.refused = args, {}, []
        self.guard, self.runs, self.stolen = Guard(args.guard), {}, []
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
        python = self.args.python.get(row.engine, sys.executable)
        engines.prepare(row, checkpoint, self.args.work, self.args.trivec, python, self.logs / f"{row.name}-prepare.log")

    def start(self, row):
        log, python = self.logs / f"{row.name}.log", self.args.python.get(row.engine, sys.executable)
        row.process = engines.Process(row, self.args.trivec, python, self.args.threads, self.max_length, log)

    def stop(self, row):
        row.rss_mb = max(row.rss_mb, row.process.peak_mb())
        row.process.close()
        row.process = None

    def ask_alone(self, row, request, **more):
        """An answer during which no other process disturbed."""
        ask = lambda: row.process.ask(request, **more)
        said = lambda words: note(f"{row.name}: {words}")
        answer, verdict = quietness.undisturbed(ask, row.process.child.pid, self.args.tries, said, self.refused)
        self.stolen.append(verdict.stolen)
        return answer

    def warm_up(self, row, shape):
        """Finds how many runs of the shape make a round of about half a second."""
        time.sleep(SETTLE_S)
        ms = row.process.ask({"shape": shape, "runs": 1})[0]
        if ms < 1000 or row.engine in engines.COMPILED_FOR_SHAPES:
            ms = min(row.process.ask({"shape": shape, "runs": 2}))
        self.runs[row, shape] = max(1, min(100, round(500 / ms)))

    def measure_shape(self, rows, shape):
        def measure(row):
            """One run more than counted: the first finds the caches as the engine before left them."""
            time.sleep(SETTLE_S)
            runs = self.runs[row, shape]
            extra = 1 if runs > 1 else 0
            ms = self.ask_alone(row, {"shape": shape, "runs": runs + extra})[extra:]
            row.shapes.setdefault(shape, []).extend(ms)

        with self.guard:
            for _ in range(self.args.rounds):
                self.each(rows, measure)
        line = ", ".join(f"{row.name} {median(row.shapes[shape]):.1f}" for row in rows if shape in row.shapes)
        note(f"{shape[0]}x{shape[1]} ms: {line}")

    def measure_mixed(self, rows):
        """Peers with batches of 1 and 8, of 32 where 8 helped, and the best again; trivec, which has no such choice, each
        time with them. Engines that compile for each shape are left out."""
        rows = [row for row in rows if row.engine not in engines.COMPILED_FOR_SHAPES]

        def one(row, batch):
            time.sleep(SETTLE_S)
            request = {"lengths": self.lengths, "runs": 1}
            if not row.is_trivec:
                request["batch"] = batch
            with self.guard:
                row.mixed.setdefault(batch, []).extend(self.ask_alone(row, request, seconds=7200))
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
            with self.guard:
                group = self.start_group(rows, trivec)
                self.each(group, cls)
                for shape in self.shapes:
                    self.each(group, lambda row, shape=shape: self.warm_up(row, shape))
            for shape in self.shapes:
                self.measure_shape(group, shape)
            if self.lengths:
                self.measure_mixed(group)
            self.each(group, self.stop)
            if not rows:
                return

    def start_group(self, rows, trivec):
        """Starts trivec and as many of the rows as fit in memory, and takes these out of `rows`."""
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
                self.each([row], self.fill)
            group.append(row)
        return [*trivec, *group]

    def fill(self, row):
        """Runs the largest shape once, so that the row has all the memory it will take."""
        row.process.ask({"shape": max(self.shapes, key=lambda shape: shape[0] * shape[1]), "runs": 1})

    def limits(self):
        """What the machine can do, by trivec's own loops, at the best of three times: a shared machine's speed changes."""
        best = {}
        with self.guard:
            for _ in range(3):
                for name, value in (trivec_json(self.args, "--probe") or {}).items():
                    best[name] = max(best.get(name, value), value)
        return best


def hold(session, rows):
    """Finds what holds each row to `--isa`; only noted, not left out, where nothing does."""
    isa, here = session.args.isa, machine.Machine()
    if isa:
        for row in rows:
            held, row.not_held = machine.hold(row.engine, isa, here, session.args.llama_built_for)
            row.held_by = held or {}
            if row.not_held:
                note(f"{row.name}: not held to {isa}: {row.not_held}")


def cosine(row, reference):
    if reference is None or row.cls is None or reference.cls is None:
        return None
    a, b = row.cls, reference.cls
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


def recorded(session, rows, limits):
    args, here = session.args, machine.Machine()
    names = [f"{texts}x{length}" for texts, length in session.shapes]
    reference = next((row for row in rows if row.name == "onnxruntime fp32"), None)
    entries = [record.row_of(row, cosine(row, reference)) for row in rows]
    return {
        "format": record.FORMAT, "date": record.today(), "cpu": here.name, "slug": here.slug(), "cores": here.cpus,
        "threads": args.threads, "memory_gb": round(psutil.virtual_memory().total / 1e9, 1), "isa": args.isa,
        "best_isa": here.best(), "trivec": next((row.version for row in rows if row.is_trivec), ""),
        "commit": args.commit, "limits": limits, "shapes": names, "rounds": args.rounds,
        "refused": len(session.refused), "most_stolen": round(max(session.stolen, default=0), 3), "lengths": session.lengths, "rows": entries, "ratios": record.ratios(entries, names),
        "left_out": session.left_out,
    }


def main():
    args = options()
    if args.isa:
        try:
            machine.Machine().check(args.isa)
        except machine.Impossible as why:
            sys.exit(str(why))
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
    hold(session, [*trivec, *peers])
    try:
        checkpoint = args.weights_dir or engines.export(args.trivec, args.work, session.logs / "export.log")
    except engines.Failed as why:
        sys.exit(f"trivec bench --export: {why}")
    vocabulary = common.Checkpoint(checkpoint).vocabulary
    session.each([*trivec, *peers], lambda row: session.prepare(row, checkpoint))
    if args.prepare_only:
        return
    if trivec:
        version = subprocess.run([args.trivec, "--version"], capture_output=True, text=True).stdout.split()
        for row in trivec:
            row.version = version[-1] if version else ""
    prepared, ours = ([row for row in rows if row.name not in session.left_out] for rows in (peers, trivec))
    try:
        limits = session.limits()
        session.measure(prepared, ours, vocabulary)
    except quietness.Disturbed as why:
        sys.exit(str(why))

    rows = [row for row in [*trivec, *peers] if row.name not in session.left_out]
    found = recorded(session, rows, limits)
    if args.json:
        raw = {row.name: {f"{b}x{n}": ms for (b, n), ms in row.shapes.items()} | {"mixed": row.mixed} for row in rows}
        args.json.write_text(json.dumps(raw, indent=1) + "\n")
    print(report.full(found))
    if not args.no_record:
        note(f"written: {record.write(found, args.record)}")


if __name__ == "__main__":
    main()
