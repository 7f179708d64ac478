#!/usr/bin/env python3
"""milvus.py (trivec | FlagEmbedding) OUT: the ten best of 300 documents for 20 queries by Milvus Lite, with the dense and the sparse vectors of
pymilvus-model's BGEM3EmbeddingFunction, as JSON in the file OUT. The model is found by its name in the cache that checkpoints.py made. Needs pymilvus, milvus-lite, pymilvus-model and
datasets."""

import json
import os
import random
import sys
import tempfile

WORDS = "the cat sat on a mat and dog lies under table when sun rises over hill where old house stands by river with two boats".split()


def texts():
    chance = random.Random(7)
    documents = [" ".join(chance.choices(WORDS, k=chance.randint(4, 24))) for _ in range(300)]
    return documents, [" ".join(chance.choices(WORDS, k=5)) for _ in range(20)]


def main() -> None:
    who, out = sys.argv[1:]
    if who == "trivec":
        import trivec.as_flagembedding

        trivec.as_flagembedding.install()
    from pymilvus import AnnSearchRequest, DataType, MilvusClient, RRFRanker
    from pymilvus.model.hybrid import BGEM3EmbeddingFunction

    function = BGEM3EmbeddingFunction(device="cpu", use_fp16=False)
    documents, queries = texts()
    stored, asked = function.encode_documents(documents), function.encode_queries(queries)
    with tempfile.TemporaryDirectory() as folder:
        client = MilvusClient(os.path.join(folder, "milvus.db"))
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=function.dim["dense"])
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        indexes = client.prepare_index_params()
        indexes.add_index("dense", index_type="FLAT", metric_type="IP")
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        client.create_collection("texts", schema=schema, index_params=indexes)

        def sparse(rows, at):
            row = rows[[at]].tocoo()
            return dict(zip(row.col.tolist(), row.data.tolist()))

        rows = [{"id": at, "dense": stored["dense"][at], "sparse": sparse(stored["sparse"], at)} for at in range(len(documents))]
        client.insert("texts", rows)
        found = {"dim": function.dim}
        for at, query in enumerate(queries):
            arms = {"dense": [asked["dense"][at]], "sparse": [sparse(asked["sparse"], at)]}
            requests = [AnnSearchRequest(data, arm, {"metric_type": "IP"}, limit=30) for arm, data in arms.items()]
            lists = {arm: client.search("texts", data, anns_field=arm, search_params={"metric_type": "IP"}, limit=10) for arm, data in arms.items()}
            lists["both"] = client.hybrid_search("texts", requests, RRFRanker(), limit=10)
            found[query] = {name: [[hit["id"], hit["distance"]] for hit in hits[0]] for name, hits in lists.items()}
        client.close()
    with open(out, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
