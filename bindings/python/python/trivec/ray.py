"""Ray Data: embeds with actors that keep a model loaded and are restarted when they die, and writes each row once, however often a job is restarted.

    ray.init()
    trivec.ray.embed_files(["docs/*.parquet"], "out/", "bge-m3", id_column="id", workers=4, threads=4)

docs/large-corpora.md says which settings matter and why.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import ray
import ray.data

from . import batch as _batch


class Embedder:
    """An actor for `Dataset.map_batches(Embedder, batch_format="pyarrow", …)`. Its arguments are those of `trivec.batch.embed_table`."""

    def __init__(self, model: Any = None, **options: Any):
        self.options = options
        self.model = _batch.model(model, options.pop("threads", None))

    def __call__(self, table: pa.Table) -> pa.Table:
        made = [_batch.embed_table(part, self.model, **self.options) for part in table.combine_chunks().to_batches()]
        if not made:
            modes, dimensions = self.options.get("modes", "dense"), self.options.get("dimensions")
            return _batch.schema(table.schema, self.model, modes=modes, dimensions=dimensions).empty_table()
        return pa.Table.from_batches(made)


def embed(
    dataset: ray.data.Dataset,
    model: Any = None,
    *,
    workers: int = 1,
    threads: int = 1,
    block_rows: int = 5_000,
    batch_size: int = 512,
    restarts: int = 3,
    **options: Any,
) -> ray.data.Dataset:
    """The dataset with the columns of vectors, computed by `workers` actors of `threads` CPUs each. When a worker dies, at most a block of `block_rows` is
    lost, some minutes of work. A text that kills its worker is tried again `restarts` times, and then ends the job; by Ray's own default it would be
    tried for ever."""
    return dataset.repartition(target_num_rows_per_block=block_rows).map_batches(
        Embedder,
        fn_constructor_args=(model,),
        fn_constructor_kwargs={**options, "threads": threads},
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=threads,
        compute=ray.data.ActorPoolStrategy(size=workers),
        max_restarts=restarts,
        max_task_retries=restarts,
    )


def embed_files(
    inputs: Any,
    output: str,
    model: Any = None,
    *,
    id_column: str,
    checkpoint: str | None = None,
    **options: Any,
) -> None:
    """Embeds Parquet files and writes Parquet files into `output`. A job that was killed goes on, when it is started again, with the rows that no file has:
    each row, identified by its 64-bit number in `id_column`, is written once. `checkpoint` is the directory that records what is done; without it, one
    next to `output`."""
    from ray.data.checkpoint import CheckpointConfig

    checkpoint = checkpoint or output.rstrip("/") + ".checkpoint"
    if "://" not in checkpoint:
        checkpoint = os.path.abspath(checkpoint)
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(id_column=id_column, checkpoint_path=checkpoint, delete_checkpoint_on_success=False)
    try:
        embed(ray.data.read_parquet(inputs), model, **options).write_parquet(output)
    finally:
        context.checkpoint_config = None
