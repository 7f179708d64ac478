"""Feeds the export to Vespa, whose application has `entry.sd` among its schemas, and asks it the manifest's queries. `vespa feed` reads the
same files faster.

    python load.py http://127.0.0.1:8080
"""
import json
import sys
import urllib.parse
import urllib.request

import trivec_export as export

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()


def call(path, body):
    data, kind = json.dumps(body).encode(), {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1].rstrip("/") + path, data, kind)) as answer:
        return json.load(answer)


asking, fed = {}, 0
for row in export.documents():
    fields = row["fields"]
    call("/document/v1/trivec/entry/docid/" + urllib.parse.quote(fields["key"], safe=""), {"fields": fields})
    fed += 1
    if fields["key"] in export.asking():
        asking[fields["key"]] = fields
export.loaded(fed)


def find(profile, inputs):
    def ask(query, limit):
        body = {"yql": "select key from entry where true", "ranking": profile, "hits": limit, **inputs(query, asking[query["key"]])}
        return [(hit["fields"]["key"], hit["relevance"]) for hit in call("/search/", body)["root"]["children"]]

    return ask


export.compare("dense", find("dense", lambda query, own: {"input.query(q)": own["dense"]["values"]}), 1e-3)
export.compare("sparse", find("sparse", lambda query, own: {"input.query(weights)": own["sparse"]["cells"]}), 1e-3)
