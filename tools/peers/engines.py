"""The rows of the table: how each engine is prepared, and the process that answers for it."""

import hashlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent


class Row:
    """An engine with one kind of weights. `bits` a weight in memory; `peak` names the machine limit of its arithmetic."""

    def __init__(self, engine, variant, bits, peak):
        self.engine, self.variant, self.bits, self.peak = engine, variant, bits, peak
        self.model = self.process = None
        self.version, self.load_s, self.rss_mb, self.cls = "", None, 0, None
        # What holds it to an instruction set, and why it cannot be held.
        self.held_by, self.not_held = {}, None
        self.shapes, self.mixed = {}, {}

    @property
    def name(self):
        return f"{self.engine} {self.variant}"

    @property
    def is_trivec(self):
        return self.engine == "trivec"


# The narrow ones first: fp32 takes the most memory and may have to wait until the others are gone.
PEERS = [
    Row("openvino", "int8-static", 8, "int8_gop_s"),
    Row("openvino", "int8-weights", 8, "int8_gop_s"),
    Row("onnxruntime", "int8", 8, "int8_gop_s"),
    Row("ctranslate2", "int8", 8, "int8_gop_s"),
    Row("llama", "q8_0", 8.5, "int8_gop_s"),
    Row("llama", "q4_0", 4.5, "int8_gop_s"),
    Row("pytorch", "int8", 8, "int8_gop_s"),
    Row("openvino", "bf16", 16, "bf16_gflop_s"),
    Row("pytorch", "bf16", 16, "bf16_gflop_s"),
    Row("zentorch", "bf16", 16, "bf16_gflop_s"),
    Row("onnxruntime", "fp32", 32, "f32_gflop_s"),
    Row("pytorch", "fp32", 32, "f32_gflop_s"),
    Row("zentorch", "fp32", 32, "f32_gflop_s"),
]
# Engines that compile for each shape: a set of texts of many lengths would measure their compiler.
COMPILED_FOR_SHAPES = ("pytorch", "zentorch")
TRIVEC = [Row("trivec", "int8", 8, "int8_gop_s"), Row("trivec", "int4", 4.25, "int8_gop_s")]


class Failed(Exception):
    """Why a row is left out."""


def last_line(path):
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def run_logged(command, log):
    with open(log, "w") as file:
        try:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file).returncode
        except OSError as why:
            raise Failed(f"{command[0]}: {why.strerror}") from why
    if code:
        raise Failed(f"exit code {code}: {last_line(log)}")


def fingerprint(checkpoint):
    """Names the weights in the cache: the header and some of the data."""
    digest = hashlib.sha256((checkpoint / "config.json").read_bytes())
    path = checkpoint / "model.safetensors"
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        for part in range(64):
            file.seek(part * size // 64)
            digest.update(file.read(65536))
    return digest.hexdigest()[:12]


def export(trivec, work, log):
    """The random weights as a Hugging Face directory."""
    directory = work / "weights"
    if not directory.exists():
        partial = work / "weights.partial"
        shutil.rmtree(partial, ignore_errors=True)
        run_logged([trivec, "bench", "--export", str(partial)], log)
        partial.rename(directory)
    return directory


def prepare(row, checkpoint, work, trivec, python, log):
    """Converts the weights for the row's engine, unless that is done already."""
    if row.is_trivec:
        row.model = work / f"trivec-{row.variant}.safetensors"
        if not row.model.exists():
            partial = work / f"trivec-{row.variant}.partial.safetensors"
            synthetic = ["bench", "--synthetic", "bge-m3", "--weights", row.variant, "--path", str(partial), "--shapes", "none"]
            run_logged([trivec, *synthetic], log)
            partial.rename(row.model)
        return
    row.model = work / fingerprint(checkpoint) / f"{row.engine}-{row.variant}"
    if not row.model.exists():
        partial = row.model.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--variant", row.variant, "--model", str(partial), "--prepare", str(checkpoint)]
        run_logged([python, str(HERE / f"peer_{row.engine}.py"), *arguments], log)
        partial.rename(row.model)


def bytes_of(model):
    files = [model] if model.is_file() else [file for file in model.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


class Process:
    """A worker: one JSON line in, one JSON line out."""

    def __init__(self, row, trivec, python, threads, max_length, log):
        self.log, self.buffer = log, b""
        if row.is_trivec:
            command = [trivec, "bench", "--worker", "--model", str(row.model)]
        else:
            command = [python, str(HERE / f"peer_{row.engine}.py"), "--worker", "--variant", row.variant]
            command += ["--model", str(row.model), "--threads", str(threads), "--max-length", str(max_length)]
        begin = time.perf_counter()
        with open(log, "w") as errors:
            environment = {**os.environ, "TRIVEC_THREADS": str(threads), **row.held_by}
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        ready = self.answer(600, "ready")
        row.version = ready.get("version", row.version)
        wanted = row.held_by.get("TRIVEC_ISA")
        if wanted and ready.get("isa") != wanted:
            self.close()
            raise Failed(f"it runs on {ready.get('isa')}, not on {wanted}")
        row.load_s = ready.get("load_s", time.perf_counter() - begin)

    def answer(self, seconds, key):
        """The next line that is a JSON object with `key`; anything else a library printed is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                try:
                    value = json.loads(line)
                except ValueError:
                    value = {key: True} if key == "ready" and line.strip() == b"ready" else None
                if isinstance(value, dict) and "error" in value:
                    raise Failed(str(value["error"]))
                if isinstance(value, dict) and key in value:
                    return value
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                self.child.kill()
                raise Failed(f"no answer in {seconds} s")
            data = os.read(self.child.stdout.fileno(), 1 << 20)
            if not data:
                code = self.child.wait()
                raise Failed(f"worker ended with {code}: {last_line(self.log)}")
            self.buffer += data

    def ask(self, request, key="ms", seconds=3600):
        try:
            self.child.stdin.write(json.dumps(request).encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self.answer(seconds, key)[key]

    def peak_mb(self):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0

    def close(self):
        try:
            self.child.stdin.close()
            self.child.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.child.kill()
            self.child.wait()
