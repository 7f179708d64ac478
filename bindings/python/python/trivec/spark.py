"""Spark: `trivec.spark.embed(frame, "bge-m3")` is the frame with columns of vectors. Install this package on the executors: each of their Python workers
loads the model once, and keeps it as long as it lives (`spark.python.worker.reuse`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, FloatType, LongType, StructField, StructType

from . import batch as _batch
from ._model import parse_modes


def embed(frame: DataFrame, model: Any = None, *, modes: Any = "dense", threads: int | None = None, **options: Any) -> DataFrame:
    """The frame with columns of vectors: arrays of floats, and for `sparse` arrays of (id, weight). `threads` is the number of threads of a task, by default
    `spark.task.cpus`; other options are those of `trivec.batch.embed_table`."""
    if threads is None:
        threads = int(frame.sparkSession.conf.get("spark.task.cpus", "1"))
    dense, sparse, colbert = parse_modes(modes)
    floats = ArrayType(FloatType(), False)
    fields = list(frame.schema.fields)
    if dense:
        fields.append(StructField("dense", floats))
    if sparse:
        pair = StructType([StructField("id", LongType(), False), StructField("weight", FloatType(), False)])
        fields.append(StructField("sparse", ArrayType(pair, False)))
    if colbert:
        fields.append(StructField("colbert", ArrayType(floats, False)))

    def each(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for one in batches:
            yield _for_spark(_batch.embed_table(one, model, modes=modes, threads=threads, **options))

    return frame.mapInArrow(each, StructType(fields))


def _for_spark(made: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in types that Spark has: it has neither lists of a fixed size nor unsigned numbers."""

    def plain(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, plain(field.type)) for field in kind])
        return pa.int64() if pa.types.is_uint32(kind) else kind

    own = ("dense", "sparse", "colbert")
    columns = [made.column(at).cast(plain(made.schema.field(at).type)) if name in own else made.column(at) for at, name in enumerate(made.schema.names)]
    return pa.RecordBatch.from_arrays(columns, names=made.schema.names)
