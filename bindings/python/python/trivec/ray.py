"""Ray Data: actors that keep a model, restarted where they die, and files that are written once however often a job is started again.

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
    """An actor of `Dataset.map_batches(Embedder, batch_format="pyarrow", …)`: its arguments are those of `trivec.batch.embed_table`."""

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
    """The dataset with the vectors' columns: `workers` actors of `threads` CPUs each. Blocks of `block_rows` are what is lost at most when a worker
    dies: some minutes of work. A text that ends its worker is tried `restarts` times, and then ends the job: Ray's own default is for ever."""
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
    """Parquet files into Parquet files in `output`. Started again after it was killed, it goes on with the rows that no file has: each row, by its
    64-bit number in `id_column`, is written once. What is done is kept in `checkpoint` (beside `output` unless another place is named)."""
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
