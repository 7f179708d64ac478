"""measure.py OUT: what `run.sh build` made in OUT, measured in turn with the engine's own calls; prints JSON.

Differences of calls are medians over rounds in each of which every program does the same calls, one program after the other.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

OUT = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY, STARTER = ROOT / "tests/data/models/f32-h64", ROOT / "models/starter.safetensors"
ROUNDS = 15


class Program:
    """A program that answers `COUNT RUNS`."""

    def __init__(self, command, model, threads, texts):
        arguments = [*command, model, str(threads), texts]
        self.process = subprocess.Popen(list(map(str, arguments)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def median(self, count, runs):
        self.process.stdin.write(f"{count} {runs}\n")
        self.process.stdin.flush()
        return statistics.median(map(float, self.process.stdout.readline().split()))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def beside(model, threads, texts, count, runs):
    """Microseconds of a call in each language, and what the others add to Rust's: medians of rounds."""
    commands = {"rust": [OUT / "calls-rust"], "c": [OUT / "calls-c"], "python": [sys.executable, ROOT / "tools/bindings_cost/worker.py"]}
    programs = {name: Program(command, model, threads, texts) for name, command in commands.items()}
    for program in programs.values():
        program.median(count, max(runs // 4, 2))
    rounds = [{name: program.median(count, runs) for name, program in programs.items()} for _ in range(ROUNDS)]
    for program in programs.values():
        program.close()
    found = {name: round(statistics.median(one[name] for one in rounds), 2) for name in programs}
    for name in ("c", "python"):
        more = [one[name] - one["rust"] for one in rounds]
        found[f"{name}_more_us"] = round(statistics.median(more), 2)
        found[f"{name}_more_percent"] = round(statistics.median(100 * (one[name] / one["rust"] - 1) for one in rounds), 2)
    return found


def in_python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def imports():
    """Milliseconds: of the import itself, which does not import numpy, and of it and numpy."""
    code = """
import json, time
begin = time.perf_counter()
import trivec
alone = time.perf_counter() - begin
import numpy
print(json.dumps([alone * 1e3, (time.perf_counter() - begin) * 1e3]))
"""
    both = [in_python(code) for _ in range(11)]
    return {"trivec_ms": round(statistics.median(a for a, _ in both), 2), "with_numpy_ms": round(statistics.median(b for _, b in both), 1)}


def lexical():
    """Microseconds a text of Python's dicts from lexical weights of some 100 ids."""
    code = """
import json, statistics, sys, time, trivec
model = trivec.Model(sys.argv[1])
words = [word for word in open(sys.argv[2], encoding="utf-8").read().split()]
texts, out = [], None
for length in range(40, 400, 10):
    out = model.encode([" ".join(words[i * 37 : i * 37 + length]) for i in range(8)], modes="sparse")
    if statistics.mean(len(ids) for ids, _ in out.sparse) >= 100:
        break
times = []
for _ in range(200):
    begin = time.perf_counter()
    out.lexical
    times.append((time.perf_counter() - begin) * 1e6 / len(out.sparse))
print(json.dumps([statistics.mean(len(ids) for ids, _ in out.sparse), statistics.median(times)]))
"""
    ids, us = in_python(code, STARTER, ROOT / "README.md")
    return {"ids": ids, "us": round(us, 1)}


def colbert():
    """Whether rows come without a copy: the array is a view of what the engine holds."""
    code = """
import json, sys, trivec
rows = trivec.Model(sys.argv[1]).encode("the cat sat on the mat " * 60, modes="colbert").colbert
print(json.dumps([list(rows.shape), rows.flags.owndata, type(rows.base).__name__]))
"""
    shape, owns, base = in_python(code, STARTER)
    return {"shape": shape, "owns_its_data": owns, "base": base}


def interrupts(texts, times):
    """Milliseconds from SIGINT to KeyboardInterrupt in the middle of a call: of each try."""
    code = """
import json, os, signal, sys, threading, time, trivec
model = trivec.Model(sys.argv[1])
model.encode("warm")
texts = ["the cat sat on the mat and looked at the weather " * int(sys.argv[3])] * int(sys.argv[2])
sent = []
def interrupt():
    time.sleep(float(sys.argv[4]))
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    model.encode(texts)
    print(json.dumps(None))
except KeyboardInterrupt:
    print(json.dumps((time.perf_counter() - sent[0]) * 1e3))
"""
    count, repeats = texts
    found = [in_python(code, STARTER, count, repeats, 0.2 + 0.03 * i) for i in range(times)]
    return {"median_ms": round(statistics.median(found), 1), "worst_ms": round(max(found), 1), "tries": times}


def forks(count):
    """Forks while four threads encode: each child encodes again, with the same bits, and says nothing on stderr."""
    code = """
import json, os, sys, threading, trivec
model = trivec.Model(sys.argv[1])
texts = ["the cat sat on the mat", "天気がいい"] * 8
expected, stop = model.encode(texts).dense.tobytes(), threading.Event()
def work():
    while not stop.is_set():
        model.encode(texts)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
good = 0
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        os._exit(0 if model.encode(texts).dense.tobytes() == expected else 1)
    good += os.waitpid(child, 0)[1] == 0
stop.set()
[thread.join() for thread in threads]
print(json.dumps(good))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(STARTER), str(count)], capture_output=True, text=True, timeout=120)
    return {"children": count, "good": json.loads(done.stdout or "0"), "stderr_bytes": len(done.stderr)}


def main():
    texts = OUT / "texts.txt"
    words = (ROOT / "README.md").read_text().split()
    # The first is short; each of the others has some 30 tokens.
    texts.write_text("\n".join(["short"] + [" ".join(words[i * 7 : i * 7 + 16]) for i in range(255)]) + "\n")
    begin = time.perf_counter()
    found = {
        "sizes": {path.name: path.stat().st_size for path in [*(OUT / "wheels").iterdir(), (OUT / "usr/lib/libtrivec.so").resolve()]},
        "import": imports(),
        "one_short_text_tiny_model_1_thread_us": beside(TINY, 1, texts, 1, 400),
        "one_short_text_starter_us": beside(STARTER, os.cpu_count(), texts, 1, 60),
        "64_texts_starter_us": beside(STARTER, os.cpu_count(), texts, 64, 2),
        "lexical_dict": lexical(),
        "colbert": colbert(),
        "ctrl_c_short_texts": interrupts((4096, 1), 9),
        "ctrl_c_long_texts": interrupts((64, 60), 9),
        "forks": forks(50),
    }
    found["seconds"] = round(time.perf_counter() - begin)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
