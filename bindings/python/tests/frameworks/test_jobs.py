"""Tests of Ray and Spark jobs whose workers are killed: they give each row once, with the same bits as a single process."""

import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import EMBEDDER

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

import trivec.batch  # noqa: E402

ROWS = 1200


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for file in range(4):
        ids = list(range(file * ROWS // 4, (file + 1) * ROWS // 4))
        texts = [f"text {id}: the cat sat on the mat" for id in ids]
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "text": texts}), folder / f"{file}.parquet")
    return str(folder)


def digest(table):
    """A digest of the rows' vectors in the order of their ids. Checks that each row is there once."""
    table = table.sort_by("id")
    assert table.column("id").to_pylist() == list(range(ROWS))
    return hashlib.sha256(np.array(table.column("dense").to_pylist(), np.float32).tobytes()).hexdigest()


@pytest.fixture
def expected(corpus):
    (batch,) = pq.read_table(corpus).combine_chunks().to_batches()
    return digest(pa.Table.from_batches([trivec.batch.embed_table(batch, EMBEDDER, threads=1)]))


# The first worker that gets one of these rows kills itself with SIGKILL. `died` has a file for each row at which this has happened.
KILL = """
import os, signal
def kill(ids):
    for id in {{200, 650, 1100}} & set(ids):
        try:
            os.close(os.open(f"{died!s}/{{id}}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def died(tmp_path):
    folder = tmp_path / "died"
    folder.mkdir()
    return folder


def test_ray(corpus, expected, tmp_path, died):
    """Three workers kill themselves, and the driver is killed with all processes that it started. The job is then run again to its end, twice."""
    pytest.importorskip("ray")
    script = tmp_path / "job.py"
    # Ray also reads and writes, so it has more CPUs than the actors. Its directory is short, because paths of sockets must be.
    script.write_text(KILL.format(died=died) + f"""
import ray, tempfile, trivec.ray
class Mortal(trivec.ray.Embedder):
    def __call__(self, table):
        kill(table.column("id").to_pylist())
        return super().__call__(table)
trivec.ray.Embedder = Mortal
path = {{"env_vars": {{"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}}}
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=path, _temp_dir=tempfile.mkdtemp(prefix="r", dir="/tmp"))
trivec.ray.embed_files({corpus!r}, {str(tmp_path / "out")!r}, {EMBEDDER!r}, id_column="id", workers=2, block_rows=50)
""")
    with open(tmp_path / "log", "w") as log:
        job = subprocess.Popen([sys.executable, script], start_new_session=True, stdout=log, stderr=log)
        # The driver is killed when the first file is there, unless the job has ended by then.
        while job.poll() is None:
            if os.path.isdir(tmp_path / "out") and any(name.endswith(".parquet") for name in os.listdir(tmp_path / "out")):
                os.killpg(job.pid, signal.SIGKILL)
                break
            try:
                job.wait(0.05)
            except subprocess.TimeoutExpired:
                pass
        job.wait()
        for _ in range(2):
            subprocess.run([sys.executable, script], check=True, timeout=300, stdout=log, stderr=log)
            assert digest(pq.read_table(tmp_path / "out")) == expected
    assert len(os.listdir(died)) == 3


def test_spark(corpus, expected, tmp_path, died):
    """Three Python workers kill themselves; Spark tries a task up to four times here."""
    pytest.importorskip("pyspark")
    script = tmp_path / "job.py"
    script.write_text(KILL.format(died=died) + f"""
import types
from pyspark.sql import SparkSession
import trivec.batch, trivec.spark
def embed_table(batch, *arguments, **options):
    kill(batch.column("id").to_pylist())
    return trivec.batch.embed_table(batch, *arguments, **options)
trivec.spark._batch = types.SimpleNamespace(embed_table=embed_table)
spark = SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false").config("spark.sql.execution.arrow.maxRecordsPerBatch", 50).getOrCreate()
frame = trivec.spark.embed(spark.read.parquet({corpus!r}), {EMBEDDER!r}, modes="all")
frame.write.parquet({str(tmp_path / "out")!r})
spark.stop()
""")
    with open(tmp_path / "log", "w") as log:
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
        subprocess.run([sys.executable, script], check=True, timeout=300, stdout=log, stderr=log, env=environment)
    table = pq.read_table(tmp_path / "out")
    assert digest(table) == expected and table.schema.names == ["id", "text", "dense", "sparse", "colbert"]
    assert len(os.listdir(died)) == 3
