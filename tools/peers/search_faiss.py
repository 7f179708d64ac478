#!/usr/bin/env python3
"""FAISS beside the dense arm: int8 rows of synthetic vectors, scanned whole, as crates/search/examples/search_speed.rs does.

    python search_faiss.py FILE [documents] [dimensions] [threads]    (pip install faiss-cpu numpy)

The index is built once and kept in FILE.
"""
import pathlib
import statistics
import sys
import time

import faiss
import numpy

file = pathlib.Path(sys.argv[1])
documents = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
dimensions = int(sys.argv[3]) if len(sys.argv) > 3 else 1024
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
faiss.omp_set_num_threads(threads)
random = numpy.random.default_rng(1)


def rows(count):
    part = random.standard_normal((count, dimensions), dtype=numpy.float32)
    return part / numpy.linalg.norm(part, axis=1, keepdims=True)


if not file.exists():
    index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(rows(20_000))
    for first in range(0, documents, 50_000):
        index.add(rows(min(50_000, documents - first)))
    faiss.write_index(index, str(file))
    sys.exit(f"{file} was built: run it again, in quiet")
index = faiss.read_index(str(file))
queries = rows(64)
for together in [1, 8]:
    times = []
    for turn in range(8):
        begin = time.perf_counter()
        index.search(queries[turn * together:(turn + 1) * together], 1000)
        times.append((time.perf_counter() - begin) * 1e3 / together)
    print(f"FAISS {faiss.__version__} IndexScalarQuantizer QT_8bit, {threads} threads, {index.ntotal} x {index.d}, {together} together, "
          f"top 1000: median {statistics.median(times):.1f} ms each, least {min(times):.1f}")
