#!/usr/bin/env python3
"""FAISS beside the dense arm: int8 rows of synthetic vectors, scanned whole, as crates/search/examples/search_speed.rs does.

    python search_faiss.py [documents] [dimensions] [threads]    (pip install faiss-cpu numpy)
"""
import statistics
import sys
import time

import faiss
import numpy

documents = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
dimensions = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
faiss.omp_set_num_threads(threads)
random = numpy.random.default_rng(1)


def rows(count):
    part = random.standard_normal((count, dimensions), dtype=numpy.float32)
    return part / numpy.linalg.norm(part, axis=1, keepdims=True)


kinds = {
    "8bit": faiss.ScalarQuantizer.QT_8bit,
    "8bit_direct_signed": faiss.ScalarQuantizer.QT_8bit_direct_signed,
}
for name, kind in kinds.items():
    index = faiss.IndexScalarQuantizer(dimensions, kind, faiss.METRIC_INNER_PRODUCT)
    scale = 1.0 if name == "8bit" else 1000.0
    index.train(rows(20_000) * scale)
    for first in range(0, documents, 50_000):
        index.add(rows(min(50_000, documents - first)) * scale)
    queries = rows(64) * scale
    for together in [1, 8]:
        times = []
        for turn in range(8):
            begin = time.perf_counter()
            index.search(queries[turn * together:(turn + 1) * together], 1000)
            times.append((time.perf_counter() - begin) * 1e3 / together)
        print(f"FAISS {faiss.__version__} IndexScalarQuantizer {name}, {threads} threads, {documents} x {dimensions}, "
              f"{together} together, top 1000: median {statistics.median(times):.1f} ms each")
    del index
