"""Loads the export into Elasticsearch, as the index `documents`, and asks it the manifest's dense queries. (OpenSearch has other names for
the vectors' types: `knn_vector`, and `rank_features` in the place of `sparse_vector`.)

    python load.py http://127.0.0.1:9200
"""
import json
import sys
import urllib.request

import trivec_export as export

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()


def call(method, path, data, kind="application/json"):
    request = urllib.request.Request(sys.argv[1].rstrip("/") + path, data, {"content-type": kind}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


call("PUT", "/documents", (export.HERE / "mapping.json").read_bytes())
asking = {}
for part in export.parts():
    data = part.read_bytes()
    answer = call("POST", "/documents/_bulk?filter_path=errors,items.*.error", data, "application/x-ndjson")
    if answer["errors"]:
        sys.exit(f"{part.name}: {json.dumps(answer)[:2000]}")
    rows = (json.loads(line) for line in data.splitlines()[1::2])
    asking.update((row["key"], row) for row in rows if row["key"] in export.asking())
call("POST", "/documents/_refresh", b"{}")
export.loaded(call("GET", "/documents/_count", None)["count"])


def dense(query, limit):
    # Every document is compared: approximate search would be `knn`. Scores may not be negative there.
    score = {"source": "cosineSimilarity(params.vector, 'dense') + 1.0", "params": {"vector": asking[query["key"]]["dense"]}}
    body = {"size": limit, "_source": ["key"], "query": {"script_score": {"query": {"match_all": {}}, "script": score}}}
    hits = call("POST", "/documents/_search", json.dumps(body).encode())["hits"]["hits"]
    return [(hit["_source"]["key"], hit["_score"] - 1.0) for hit in hits]


export.compare("dense", dense, 1e-3)
