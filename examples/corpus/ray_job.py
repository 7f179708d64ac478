"""ray_job.py [--model M] [--workers N] [--threads N] INPUT.parquet... OUT: embeds the column `text` of Parquet files by `id`, a 64-bit number.

Kill any of its processes, or all: started again it goes on, and each row is written once.
"""

import argparse
import os
import sys

try:
    import ray

    import trivec.ray
except ImportError as error:
    sys.exit(f"{sys.argv[0]}: {error} (it needs the packages `trivec` and `ray[data]`)")

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--block-rows", type=int, default=5_000)
parser.add_argument("inputs", nargs="+")
parser.add_argument("out")
given = parser.parse_args()
missing = [path for path in given.inputs if "://" not in path and not os.path.exists(path)]
if missing:
    sys.exit(f"{sys.argv[0]}: {missing[0]}: there is no such file")
ray.init()
trivec.ray.embed_files(
    given.inputs,
    given.out,
    given.model,
    id_column="id",
    workers=given.workers,
    threads=given.threads,
    block_rows=given.block_rows,
)
