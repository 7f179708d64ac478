"""Loads the export into Milvus and asks it the manifest's queries. Milvus takes the dense vectors and the lexical weights.

    python load.py documents.db              into Milvus Lite, a file (pip install pymilvus milvus-lite)
    python load.py http://127.0.0.1:19530    into a server
"""
import sys

import trivec_export as export  # before the packages: it says in a line which of them is missing

from pymilvus import DataType, MilvusClient

# Milvus takes no empty sparse vector: documents without lexical weights have this one, which no query asks for.
NOTHING = {4_000_000_000: 1e-6}

if len(sys.argv) != 2:
    sys.exit(__doc__)
export.verify()
client = MilvusClient(sys.argv[1])
schema = client.create_schema(auto_id=False)
schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=65_535)
schema.add_field("text", DataType.VARCHAR, max_length=65_535)
for name in ["title", "lang", "document"]:
    schema.add_field(name, DataType.VARCHAR, max_length=65_535, nullable=True)
schema.add_field("metadata", DataType.JSON)
schema.add_field("dense", DataType.FLOAT_VECTOR, dim=export.MANIFEST["dense_dim"])
schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
indices = client.prepare_index_params()
indices.add_index("dense", index_type="FLAT", metric_type="IP")
indices.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
client.create_collection("documents", schema=schema, index_params=indices)

asking, batch, inserted = {}, [], 0


def insert():
    global inserted
    if batch:
        inserted += client.insert("documents", batch)["insert_count"]
        batch.clear()


for row in export.documents():
    row["sparse"] = {int(token): weight for token, weight in row.get("sparse", {}).items()} or NOTHING
    if row["key"] in export.asking():
        asking[row["key"]] = row
    batch.append(row)
    if len(batch) == 200:
        insert()
insert()
client.flush("documents")
client.load_collection("documents")
export.loaded(inserted)


def find(arm):
    def ask(query, limit):
        vector = asking[query["key"]][arm]
        found = client.search("documents", [vector], anns_field=arm, limit=limit, output_fields=["key"], search_params={"metric_type": "IP"})
        return [(hit["entity"]["key"], hit["distance"]) for hit in found[0]]

    return ask


export.compare("dense", find("dense"))
export.compare("sparse", find("sparse"))
