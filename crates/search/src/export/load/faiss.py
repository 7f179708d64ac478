"""Puts the export's dense vectors into an exact index of FAISS, writes it, reads it again and asks it the manifest's queries. Ids are places
in the export's order: `documents.jsonl` has the keys.

    python load.py dense.faiss    (pip install faiss-cpu numpy)
"""
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

import faiss
import numpy

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
dense = numpy.load(export.HERE / "dense.npy")
index = faiss.IndexFlatIP(dense.shape[1])
index.add(dense)
faiss.write_index(index, sys.argv[1])
index = faiss.read_index(sys.argv[1])
keys = [document["key"] for document in export.documents()]
place = {key: number for number, key in enumerate(keys)}
export.loaded(index.ntotal)


def find(query, limit):
    number = place[query["key"]]
    scores, found = index.search(dense[number:number + 1], limit)
    return [(keys[number], score) for number, score in zip(found[0], scores[0])]


export.compare("dense", find)
