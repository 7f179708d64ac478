"""Reads the export's arrays with NumPy and asks them the manifest's queries: how the files are read, in few lines.

    python load.py    (pip install numpy)
"""
import trivec_export as export  # before the packages: it says in a line which of them is missing

import numpy

export.verify()
keys = [document["key"] for document in export.documents()]
place = {key: number for number, key in enumerate(keys)}
dense = numpy.load(export.HERE / "dense.npy", mmap_mode="r")
export.loaded(len(dense))


def best(scores, limit):
    order = numpy.argsort(-scores, kind="stable")[:limit]
    return [(keys[number], scores[number]) for number in order]


export.compare("dense", lambda query, limit: best(dense @ dense[place[query["key"]]], limit))
if (export.HERE / "sparse_ids.npy").exists():
    starts, ids, weights = (numpy.load(export.HERE / f"sparse_{name}.npy", mmap_mode="r") for name in ["starts", "ids", "weights"])

    def sparse(query, limit):
        begin, end = starts[place[query["key"]]:][:2]
        wanted = numpy.zeros(int(ids.max()) + 1)
        wanted[ids[begin:end]] = weights[begin:end]
        # Sums of parts that may be empty.
        sums = numpy.concatenate([[0.0], numpy.cumsum(wanted[ids] * weights, dtype=numpy.float64)])
        return best(sums[starts[1:]] - sums[starts[:-1]], limit)

    export.compare("sparse", sparse)
if export.MANIFEST["colbert_dim"]:
    rows, starts = (numpy.load(export.HERE / name, mmap_mode="r") for name in ["colbert.npy", "colbert_starts.npy"])

    def of(key):
        begin, end = starts[place[key]:][:2]
        return rows[begin:end].astype(numpy.float32)

    def colbert(query, limit):
        asked = of(query["key"])[: query["colbert_rows"]]
        found = [(key, (asked @ of(key).T).max(axis=1).mean()) for key in query["colbert_of"]]
        return sorted(found, key=lambda pair: -pair[1])[:limit]

    export.compare("colbert", colbert, 1e-3)
