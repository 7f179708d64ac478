"""Loads the export into Qdrant and asks it the manifest's queries.

    python load.py shard/                   into Qdrant Edge, in this process (pip install qdrant-edge-py)
    python load.py http://127.0.0.1:6333    into a server, as the collection `documents`
"""
import json
import sys
import urllib.request

import trivec_export as export

DENSE, COLBERT = export.MANIFEST["dense_dim"], export.MANIFEST["colbert_dim"]


def edge(directory):
    from qdrant_edge import (Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, MultiVectorComparator,
                             MultiVectorConfig, Point, Prefetch, Query, QueryRequest, SearchParams, SparseVector, UpdateOperation)
    from pathlib import Path

    vectors = {"dense": EdgeVectorParams(size=DENSE, distance=Distance.Dot)}
    if COLBERT:
        many = MultiVectorConfig(MultiVectorComparator.MaxSim)
        vectors["colbert"] = EdgeVectorParams(size=COLBERT, distance=Distance.Dot, multivector_config=many)
    Path(directory).mkdir(parents=True)
    shard = EdgeShard.create(directory, EdgeConfig(vectors=vectors, sparse_vectors={"sparse": EdgeSparseVectorParams()}))

    def point(row):
        vector = dict(row["vector"])
        if "sparse" in vector:
            vector["sparse"] = SparseVector(vector["sparse"]["indices"], vector["sparse"]["values"])
        return Point(id=row["id"], vector=vector, payload=row["payload"])

    def upsert(rows):
        shard.update(UpdateOperation.upsert_points([point(row) for row in rows]))

    def search(arm, vector, limit, among=None):
        def nearest(arm, vector):
            return Query.Nearest(SparseVector(**vector) if arm == "sparse" else vector, using=arm)

        prefetches = [Prefetch(limit=among[0], query=nearest("dense", among[1]))] if among else []
        request = QueryRequest(limit=limit, query=nearest(arm, vector), prefetches=prefetches, with_payload=True,
                               params=SearchParams(exact=True))
        return [(point.payload["key"], point.score) for point in shard.query(request)]

    from qdrant_edge import CountRequest
    return upsert, search, lambda: shard.count(CountRequest(exact=True))


def server(url):
    def call(method, path, body):
        data = json.dumps(body).encode()
        request = urllib.request.Request(url.rstrip("/") + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["result"]

    vectors = {"dense": {"size": DENSE, "distance": "Dot"}}
    if COLBERT:
        many = {"multivector_config": {"comparator": "max_sim"}, "hnsw_config": {"m": 0}}
        vectors["colbert"] = {"size": COLBERT, "distance": "Dot", **many}
    call("PUT", "/collections/documents", {"vectors": vectors, "sparse_vectors": {"sparse": {}}})

    def upsert(rows):
        call("PUT", "/collections/documents/points?wait=true", {"points": rows})

    def search(arm, vector, limit, among=None):
        body = {"query": vector, "using": arm, "limit": limit, "with_payload": ["key"], "params": {"exact": True}}
        if among:
            body["prefetch"] = {"query": among[1], "using": "dense", "limit": among[0]}
        points = call("POST", "/collections/documents/points/query", body)["points"]
        return [(point["payload"]["key"], point["score"]) for point in points]

    return upsert, search, lambda: call("POST", "/collections/documents/points/count", {"exact": True})["count"]


if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
upsert, search, count = (server if "://" in sys.argv[1] else edge)(sys.argv[1])
asking = {}
for part in export.parts():
    rows = [json.loads(line) for line in open(part, encoding="utf-8")]
    asking.update((row["payload"]["key"], row["vector"]) for row in rows if row["payload"]["key"] in export.asking())
    upsert(rows)
export.loaded(count())
export.compare("dense", lambda query, limit: search("dense", asking[query["key"]]["dense"], limit))
export.compare("sparse", lambda query, limit: search("sparse", asking[query["key"]]["sparse"], limit))
if COLBERT:
    def colbert(query, limit):
        vector, rows = asking[query["key"]], query["colbert_rows"]
        found = search("colbert", vector["colbert"][:rows], limit, (len(query["colbert_of"]), vector["dense"]))
        # Qdrant adds up what is a mean here.
        return [(key, score / rows) for key, score in found]

    export.compare("colbert", colbert, 1e-3)
