"""Embeds a column of texts of a pyarrow batch as columns of vectors. Ray, Spark and plain pyarrow jobs call it.

>>> batch = pyarrow.RecordBatch.from_pydict({"id": [1, 2], "text": ["one", "two"]})
>>> trivec.batch.embed_table(batch, "starter").schema.names
['id', 'text', 'dense']
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pyarrow as pa

from ._errors import OptionError
from ._model import Model, parse_modes

_loaded: dict[tuple, Model] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    # In a child that was forked while another thread held the lock, nobody would release it.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def model(name: Any, threads: int | None = None) -> Model:
    """The model of this name, which is loaded once in a process; or `name` itself, if it is a model."""
    if isinstance(name, Model):
        return name
    key = (name if name is None else os.fspath(name), threads)
    with _lock:
        if key not in _loaded:
            _loaded[key] = Model(name, threads=threads)
        return _loaded[key]


def schema(own: pa.Schema, of: Any, *, modes: Any = "dense", dimensions: int | None = None, threads: int | None = None) -> pa.Schema:
    """The schema of what `embed_table` returns for a batch with the schema `own`."""
    info, dense_sparse_colbert = model(of, threads).info, parse_modes(modes)
    for name, wanted in zip(("dense", "sparse", "colbert"), dense_sparse_colbert):
        if wanted and name in own.names:
            raise OptionError(f"the table has a column `{name}` already")
    fields = []
    if dense_sparse_colbert[0]:
        fields.append(pa.field("dense", pa.list_(pa.float32(), dimensions or info["dense_dim"])))
    if dense_sparse_colbert[1]:
        fields.append(pa.field("sparse", pa.list_(pa.struct([("id", pa.uint32()), ("weight", pa.float32())]))))
    if dense_sparse_colbert[2]:
        fields.append(pa.field("colbert", pa.list_(pa.list_(pa.float32(), info["colbert_dim"] or 1))))
    return pa.schema([*own, *fields])


def embed_table(
    batch: pa.RecordBatch,
    of: Any = None,
    *,
    column: str = "text",
    modes: Any = "dense",
    max_length: int | None = None,
    dimensions: int | None = None,
    prompt: str | None = None,
    threads: int | None = None,
) -> pa.RecordBatch:
    """The batch with one more column for each mode: `dense`, a list of float32 of fixed length; `sparse`, a list of (id, weight) with ascending ids;
    `colbert`, a list of vectors, each a list of float32 of fixed length. Rows whose text is null have null in them. `of` is a model, or the name or path
    of one, which is loaded once in a process.

    A text's row has the same bits whatever other rows the batch has, so a table may be cut into batches anywhere.
    """
    loaded = model(of, threads)
    names = batch.schema.names
    if names.count(column) != 1:
        raise OptionError(f"column: found {column!r}, expected one of {names}")
    texts = batch.column(column)
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type) or pa.types.is_string_view(texts.type)):
        raise OptionError(f"column: `{column}` has {texts.type}, expected strings")
    result = schema(batch.schema, loaded, modes=modes, dimensions=dimensions)
    there = np.asarray(texts.is_valid())
    encoded = loaded.encode(
        texts.drop_null().to_pylist(), modes=modes, max_length=max_length, dimensions=dimensions, prompt=prompt
    )
    columns = list(batch.columns)
    if encoded.dense is not None:
        columns.append(_rows(encoded.dense, there))
    if encoded.sparse is not None:
        ids = _joined([ids for ids, _ in encoded.sparse], np.uint32)
        weights = _joined([weights for _, weights in encoded.sparse], np.float32)
        pairs = pa.StructArray.from_arrays([pa.array(ids), pa.array(weights)], ["id", "weight"])
        columns.append(_lists([len(ids) for ids, _ in encoded.sparse], pairs, there))
    if encoded.colbert is not None:
        dim = loaded.info["colbert_dim"]
        values = _joined([rows.ravel() for rows in encoded.colbert], np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), dim)
        columns.append(_lists([len(rows) for rows in encoded.colbert], vectors, there))
    return pa.RecordBatch.from_arrays(columns, schema=result)


def _joined(arrays: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


def _rows(vectors: np.ndarray, there: np.ndarray) -> pa.Array:
    full = np.zeros((len(there), vectors.shape[1]), np.float32)
    full[there] = vectors
    mask = None if there.all() else pa.array(~there)
    return pa.FixedSizeListArray.from_arrays(pa.array(full.ravel()), vectors.shape[1], mask=mask)


def _lists(lengths: list[int], values: pa.Array, there: np.ndarray) -> pa.Array:
    full = np.zeros(len(there), np.int64)
    full[there] = lengths
    ends = np.concatenate([[0], np.cumsum(full)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise OptionError("a batch has more than 2^31 values in a column of lists: use smaller batches")
    mask = None if there.all() else pa.array(~there)
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values, mask=mask)
