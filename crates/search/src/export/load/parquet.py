"""Reads the export's Parquet file and asks it the manifest's queries: how its columns are read, in few lines. Metadata are JSON.

    python load.py    (pip install pyarrow numpy)
"""
import trivec_export as export  # before the packages: it says in a line which of them is missing

import numpy
import pyarrow.parquet

export.verify()
table = pyarrow.parquet.read_table(export.HERE / "documents.parquet")
export.loaded(table.num_rows)
keys = table["key"].to_pylist()
place = {key: number for number, key in enumerate(keys)}


def best(scores, limit):
    order = numpy.argsort(-numpy.asarray(scores), kind="stable")[:limit]
    return [(keys[number], scores[number]) for number in order]


dense = numpy.array(table["dense"].to_pylist(), dtype=numpy.float32)
export.compare("dense", lambda query, limit: best(dense @ dense[place[query["key"]]], limit))
rows = list(zip(table["sparse_ids"].to_pylist(), table["sparse_weights"].to_pylist()))
lexical = [dict(zip(ids, weights)) for ids, weights in rows]


def sparse(query, limit):
    own = lexical[place[query["key"]]]
    return best([sum(own.get(token, 0.0) * weight for token, weight in weights.items()) for weights in lexical], limit)


export.compare("sparse", sparse)
if export.MANIFEST["colbert_dim"]:
    wanted = {key for query in export.MANIFEST["queries"] for key in query["colbert_of"]} | export.asking()
    token_rows = {key: numpy.array(table["colbert"][place[key]].as_py(), dtype=numpy.float32) for key in wanted}

    def colbert(query, limit):
        asked = token_rows[query["key"]][: query["colbert_rows"]]
        found = [(key, (asked @ token_rows[key].T).max(axis=1).mean()) for key in query["colbert_of"]]
        return sorted(found, key=lambda pair: -pair[1])[:limit]

    export.compare("colbert", colbert, 1e-3)
