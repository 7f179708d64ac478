"""Tests of the adapters with the real packages. Each runs if its package is installed: tools/check_python_frameworks.sh makes an environment for each."""

import numpy as np
import pytest
from conftest import EMBEDDER, RERANKER

import trivec

TEXTS = ["the cat sat on the mat", "a dog", "天気がいい"]


@pytest.fixture
def expected(model):
    return model.encode(TEXTS).dense


def test_langchain(model, reranker, expected):
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore

    from trivec.integrations.langchain import TrivecEmbeddings, TrivecReranker

    embeddings = TrivecEmbeddings(model)
    assert np.allclose(embeddings.embed_documents(TEXTS), expected) and type(embeddings.embed_query("a")[0]) is float
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    assert store.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
    documents = [Document(text, metadata={"at": at}) for at, text in enumerate(TEXTS)]
    kept = TrivecReranker(model=reranker, top_n=2).compress_documents(documents, "cat")
    best = reranker.rerank("cat", TEXTS, top=2)
    assert [document.metadata["at"] for document in kept] == [one.index for one in best]
    assert kept[0].metadata["relevance_score"] == best[0].score


def test_llama_index(model, reranker, expected):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from trivec.integrations.llama_index import TrivecEmbedding, TrivecRerank, TrivecSparseEmbedding

    embedding = TrivecEmbedding(model)
    assert np.allclose(embedding.get_text_embedding_batch(TEXTS), expected)
    assert np.allclose(embedding.get_query_embedding(TEXTS[0]), expected[0])
    lexical = model.encode(TEXTS, modes="sparse").lexical
    assert TrivecSparseEmbedding(model).get_text_embedding_batch(TEXTS) == lexical
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
    kept = TrivecRerank(reranker, top_n=2).postprocess_nodes(nodes, QueryBundle("cat"))
    assert [node.node.text for node in kept] == [one.document for one in reranker.rerank("cat", TEXTS, top=2)]


def test_haystack(reranker, expected):
    pytest.importorskip("haystack")
    from haystack import Document, Pipeline

    from trivec.integrations.haystack import TrivecDocumentEmbedder, TrivecRanker, TrivecTextEmbedder

    pipeline = Pipeline()
    pipeline.add_component("embedder", TrivecTextEmbedder(EMBEDDER))
    # Haystack loads only classes of modules that the caller names.
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["trivec.integrations.haystack"])
    assert np.allclose(again.run({"embedder": {"text": TEXTS[0]}})["embedder"]["embedding"], expected[0])
    documents = TrivecDocumentEmbedder(EMBEDDER).run([Document(content=text) for text in TEXTS])["documents"]
    assert np.allclose([document.embedding for document in documents], expected)
    ranked = TrivecRanker(RERANKER, top_k=2).run("cat", documents)["documents"]
    assert [document.content for document in ranked] == [one.document for one in reranker.rerank("cat", TEXTS, top=2)]


def test_chroma(model, tmp_path):
    chromadb = pytest.importorskip("chromadb")
    from trivec.integrations.chroma import TrivecEmbeddingFunction, TrivecSparseEmbeddingFunction

    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    collection = client.create_collection("texts", embedding_function=TrivecEmbeddingFunction(EMBEDDER))
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    assert collection.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]
    # The stored collection finds its embedding function again.
    again = chromadb.PersistentClient(str(tmp_path / "chroma")).get_collection("texts")
    assert again.query(query_texts=[TEXTS[2]], n_results=1)["ids"] == [["2"]]
    sparse = TrivecSparseEmbeddingFunction(EMBEDDER)(TEXTS)
    assert dict(zip(sparse[0].indices, sparse[0].values)) == model.encode(TEXTS[0], modes="sparse").lexical


def test_sentence_transformers(model, expected):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from trivec.st import TrivecTransformer

    encoder = sentence_transformers.SentenceTransformer(modules=[TrivecTransformer(model)], prompts={"query": "q: "})
    assert (encoder.encode(TEXTS) == expected).all()
    assert (encoder.encode_query(TEXTS[0]) == model.encode("q: " + TEXTS[0]).dense).all()
    assert encoder.encode(TEXTS, truncate_dim=8).shape == (3, 8) and encoder.encode(TEXTS, precision="ubinary").dtype == np.uint8
    assert np.allclose(encoder.similarity(expected, expected).numpy(), expected @ expected.T, atol=1e-6)
    if hasattr(sentence_transformers, "MultiVectorEncoder"):
        many = sentence_transformers.MultiVectorEncoder(modules=[TrivecTransformer(model, "colbert")])
        rows = many.encode_document(TEXTS)
        for found, own in zip(rows, model.encode(TEXTS, modes="colbert").colbert):
            assert np.allclose(np.asarray(found), own, atol=1e-6)


def test_adapters_are_short():
    import pathlib

    folder = pathlib.Path(trivec.__file__).parent / "integrations"
    sizes = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert len(sizes) == 5 and max(sizes.values()) < 100, sizes
