"""Loads the export into DuckDB, as the table `documents`, and asks it the manifest's queries.

    python load_duckdb.py documents.duckdb    (pip install duckdb numpy pyarrow)
"""
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

import duckdb
import numpy
import pyarrow

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
dim = export.MANIFEST["dense_dim"]
documents = list(export.documents())
dense = numpy.load(export.HERE / "dense.npy")
rows = pyarrow.table({
    "key": [document["key"] for document in documents],
    "text": [document["text"] for document in documents],
    "dense": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(dense.reshape(-1)), dim),
})
connection = duckdb.connect(sys.argv[1])
connection.execute(f"CREATE TABLE documents AS SELECT key, text, dense::FLOAT[{dim}] AS dense FROM rows")
export.loaded(connection.execute("SELECT count(*) FROM documents").fetchone()[0])

DENSE = """SELECT d.key, array_inner_product(d.dense, q.dense) AS score FROM documents d, (SELECT dense FROM documents WHERE key = $key) q
           ORDER BY score DESC, d.key LIMIT $limit"""
SPARSE = """SELECT d.key, sum(d.weight::DOUBLE * q.weight) AS score FROM lexical d JOIN lexical q USING (token) WHERE q.key = $key
            GROUP BY d.key ORDER BY score DESC, d.key LIMIT $limit"""


def find(ask):
    return lambda query, limit: connection.execute(ask, {"key": query["key"], "limit": limit}).fetchall()


export.compare("dense", find(DENSE))
if (export.HERE / "sparse_ids.npy").exists():
    starts, ids, weights = (numpy.load(export.HERE / f"sparse_{name}.npy") for name in ["starts", "ids", "weights"])
    owners = numpy.repeat(numpy.arange(len(documents)), numpy.diff(starts).astype(numpy.int64))
    weighed = pyarrow.table({"key": [documents[owner]["key"] for owner in owners], "token": ids, "weight": weights})
    connection.execute("CREATE TABLE lexical AS SELECT * FROM weighed")
    export.compare("sparse", find(SPARSE))
