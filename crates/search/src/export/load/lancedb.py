"""Loads the export into LanceDB, as the table `documents`, and asks it the manifest's queries. LanceDB takes the dense vectors and the ColBERT
rows; lexical weights have no type there.

    python load.py database/    (pip install lancedb numpy pyarrow)
"""
import json
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

import lancedb
import numpy
import pyarrow

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
dim, rows_dim = export.MANIFEST["dense_dim"], export.MANIFEST["colbert_dim"]
documents = list(export.documents())
dense = numpy.load(export.HERE / "dense.npy")
columns = {
    "key": pyarrow.array([document["key"] for document in documents]),
    "text": pyarrow.array([document["text"] for document in documents]),
    "metadata": pyarrow.array([json.dumps(document.get("metadata", {})) for document in documents]),
    "dense": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(dense.reshape(-1)), dim),
}
if rows_dim:
    rows = numpy.load(export.HERE / "colbert.npy").astype(numpy.float32)
    starts = numpy.load(export.HERE / "colbert_starts.npy")
    inner = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows_dim)
    columns["colbert"] = pyarrow.ListArray.from_arrays(pyarrow.array(starts, pyarrow.int32()), inner)
table = lancedb.connect(sys.argv[1]).create_table("documents", pyarrow.table(columns))
export.loaded(table.count_rows())
place = {document["key"]: number for number, document in enumerate(documents)}


def dense_hits(query, limit):
    found = table.search(dense[place[query["key"]]], vector_column_name="dense").distance_type("dot").limit(limit)
    return [(row["key"], 1.0 - row["_distance"]) for row in found.to_list()]


export.compare("dense", dense_hits)
if rows_dim:
    def colbert_hits(query, limit):
        begin, end = starts[place[query["key"]]:][:2]
        asked = rows[begin:end][: query["colbert_rows"]]
        among = ", ".join("'" + key.replace("'", "''") + "'" for key in query["colbert_of"])
        found = table.search(asked, vector_column_name="colbert").distance_type("cosine").where(f"key IN ({among})", prefilter=True)
        # A distance is 1 - cosine, added up over the rows that ask: a mean of cosines here. Stored rows are a little off length 1.
        return [(row["key"], 1.0 - row["_distance"] / len(asked)) for row in found.limit(limit).to_list()]

    export.compare("colbert", colbert_hits, 2e-2)
