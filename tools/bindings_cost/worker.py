"""worker.py MODEL THREADS TEXTS: what calls from Python take, answered as bindings/c/examples/calls.rs does."""

import sys
import time

import trivec

model = trivec.Model(sys.argv[1], threads=int(sys.argv[2]))
with open(sys.argv[3], encoding="utf-8") as file:
    texts = file.read().splitlines()
for line in sys.stdin:
    count, runs = map(int, line.split())
    part, times = texts[:count], []
    for _ in range(runs):
        begin = time.perf_counter()
        model.encode(part)
        times.append((time.perf_counter() - begin) * 1e6)
    print(*(f"{one:.3f}" for one in times), flush=True)
