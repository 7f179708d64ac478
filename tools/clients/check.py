"""Real clients against a running `trivec serve`, every vector beside what `trivec embed` prints.

Started by run.sh; by hand: check.py URL KEYED_URL RERANK_URL KEY TRIVEC_BINARY RERANKER [CLIENT…]
URL is a service without keys, KEYED_URL one with KEY and a queue so small that it is soon full, RERANK_URL one with the model RERANKER.
"""

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# No client may look for a model or a vocabulary on the internet.
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", LANGCHAIN_TRACING_V2="false", LITELLM_LOCAL_MODEL_COST_MAP="True")

import numpy as np

URL, KEYED_URL, RERANK_URL, KEY, BINARY, RERANKER = sys.argv[1:7]
TEXTS = ["苹果公司发布新手机", "Apple launched a new iPhone", "", "¿Dónde está la biblioteca? 🎉\nline two"]
LONG = "word " * 100
checks = 0


def embed(*options):
    """What `trivec embed` prints for TEXTS: the truth of every check."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    command = [BINARY, "-q", "embed", "--input-format", "jsonl", *options]
    out = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def same(what, found, expected):
    """The same numbers: the service writes what the command writes; a client may hold them as float64."""
    global checks
    found, expected = np.asarray(found, np.float32), np.asarray(expected, np.float32)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    worst = float(np.abs(found - expected).max(initial=0))
    assert worst <= 1e-6, f"{what}: differs by {worst}"
    checks += 1
    print(f"  ok  {what}")


def holds(what, condition, shown=None):
    global checks
    assert condition, f"{what}: {shown!r}"
    checks += 1
    print(f"  ok  {what}")


EXPECTED = embed("--modes", "dense,sparse,colbert")
DENSE = [line["dense"] for line in EXPECTED]
CUT = [line["dense"] for line in embed("--dimensions", "64")]


def openai_package():
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    holds("openai: models.list, models.retrieve", client.models.retrieve(model).id == model, model)
    answer = client.embeddings.create(model=model, input=TEXTS)  # base64, its default
    same("openai: a list, base64", [entry.embedding for entry in answer.data], DENSE)
    holds("openai: usage and order", answer.usage.total_tokens > 0 and [e.index for e in answer.data] == list(range(len(TEXTS))))
    same("openai: one string", client.embeddings.create(model=model, input=TEXTS[0]).data[0].embedding, DENSE[0])
    floats = client.embeddings.create(model=model, input=TEXTS, encoding_format="float")
    same("openai: floats", [entry.embedding for entry in floats.data], DENSE)
    cut = client.embeddings.create(model=model, input=TEXTS, dimensions=64, user="somebody")
    same("openai: dimensions", [entry.embedding for entry in cut.data], CUT)
    import httpx

    ids = [[token["id"] for token in text] for text in httpx.post(f"{URL}/tokenize", json={"inputs": TEXTS}).json()]
    answer = client.embeddings.create(model=model, input=ids)
    same("openai: lists of token ids", [entry.embedding for entry in answer.data], DENSE)
    same("openai: token ids", client.embeddings.create(model=model, input=ids[0]).data[0].embedding, DENSE[0])

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as client:
            return await client.embeddings.create(model=model, input=TEXTS)

    import asyncio

    same("openai: the asynchronous client", [entry.embedding for entry in asyncio.run(run()).data], DENSE)

    def refused(what, kind, status, call):
        try:
            call()
        except openai.APIStatusError as error:
            body = error.body or {}
            fits = isinstance(error, kind) and error.status_code == status and {"message", "type", "code", "param"} <= set(body)
            holds(f"openai: {what} is a {kind.__name__}", fits, (type(error), error.status_code, body))
        else:
            raise AssertionError(f"openai: {what} was taken")

    create = client.embeddings.create
    other = create(model="text-embedding-3-small", input=TEXTS[0])
    holds("openai: another model's name is answered by this one", other.model == model, other.model)
    refused("a number as input", openai.UnprocessableEntityError, 422, lambda: create(model=model, input=5))
    refused("too many dimensions", openai.UnprocessableEntityError, 422, lambda: create(model=model, input="a", dimensions=10**6))
    refused("a body that is no JSON", openai.BadRequestError, 400, lambda: client.post("/embeddings", cast_to=object))
    keyed = openai.OpenAI(base_url=f"{KEYED_URL}/v1", api_key=KEY, max_retries=0)
    same("openai: with a key", keyed.embeddings.create(model=model, input=TEXTS[0]).data[0].embedding, DENSE[0])
    wrong = keyed.with_options(api_key="wrong")
    refused("a wrong key", openai.AuthenticationError, 401, lambda: wrong.embeddings.create(model=model, input="a"))

    def flood(_):
        try:
            return keyed.embeddings.create(model=model, input=[LONG] * 8)
        except openai.RateLimitError as error:
            return error

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(flood, range(36)))
    full = [outcome for outcome in outcomes if isinstance(outcome, openai.RateLimitError)]
    holds("openai: a full queue is a RateLimitError with Retry-After", full and all(e.response.headers.get("retry-after") for e in full), len(full))
    holds("openai: the others were answered", len(full) < len(outcomes))
    patient = keyed.with_options(max_retries=20)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: patient.embeddings.create(model=model, input=[LONG] * 8), range(6)))
    holds("openai: with its own retries all are", all(len(answer.data) == 8 for answer in answers))


def langchain():
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings
    from langchain_openai import OpenAIEmbeddings

    # It would cut texts by OpenAI's own tokenizer (tiktoken, from the internet) and send OpenAI's token ids: switch that off.
    client = OpenAIEmbeddings(base_url=f"{URL}/v1", api_key="none", model="starter", check_embedding_ctx_length=False)
    same("langchain OpenAIEmbeddings: documents", client.embed_documents(TEXTS), DENSE)
    same("langchain OpenAIEmbeddings: a query", client.embed_query(TEXTS[0]), DENSE[0])
    cut = OpenAIEmbeddings(base_url=f"{URL}/v1", api_key="none", model="starter", check_embedding_ctx_length=False, dimensions=64)
    same("langchain OpenAIEmbeddings: dimensions", cut.embed_documents(TEXTS), CUT)
    # This version takes names of repositories alone, no addresses; older ones took them. What it would do with one is this.
    client = HuggingFaceEndpointEmbeddings(model="starter")
    client.client = InferenceClient(model=URL)
    # It puts spaces where texts have line ends.
    plain = [i for i, text in enumerate(TEXTS) if "\n" not in text]
    same("langchain HuggingFaceEndpointEmbeddings (TEI): documents", client.embed_documents([TEXTS[i] for i in plain]), [DENSE[i] for i in plain])
    same("langchain HuggingFaceEndpointEmbeddings (TEI): a query", client.embed_query(TEXTS[0]), DENSE[0])


def llama_index():
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    client = OpenAILikeEmbedding(model_name="starter", api_base=f"{URL}/v1", api_key="none", embed_batch_size=2)
    some = [i for i, text in enumerate(TEXTS) if text and "\n" not in text]
    same("llama-index OpenAILikeEmbedding: texts", client.get_text_embedding_batch([TEXTS[i] for i in some]), [DENSE[i] for i in some])
    same("llama-index OpenAILikeEmbedding: a query", client.get_query_embedding(TEXTS[0]), DENSE[0])
    for keyed in (False, True):
        client = TextEmbeddingsInference(
            model_name="starter", base_url=KEYED_URL if keyed else URL, auth_token=KEY if keyed else None,
            text_instruction="", query_instruction="", timeout=60,
        )
        name = "llama-index TextEmbeddingsInference" + (" with a key" if keyed else "")
        same(f"{name}: texts", client.get_text_embedding_batch([TEXTS[i] for i in some]), [DENSE[i] for i in some])
        same(f"{name}: a query", client.get_query_embedding(TEXTS[0]), DENSE[0])


def hugging_face_hub():
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    client = InferenceClient(model=URL)
    same("huggingface_hub InferenceClient: feature_extraction", [client.feature_extraction(text)[0] for text in TEXTS], DENSE)
    same("huggingface_hub InferenceClient: a list", client.feature_extraction(TEXTS), DENSE)
    # TEI has one root, and it embeds: its other routes are named.
    similar = InferenceClient(model=f"{URL}/similarity").sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    cosine = lambda a, b: float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))
    same("huggingface_hub InferenceClient: sentence_similarity", similar, [cosine(np.asarray(DENSE[0]), np.asarray(d)) for d in DENSE[1:]])
    try:
        InferenceClient(model=KEYED_URL, token="wrong").feature_extraction("a")
    except HfHubHTTPError as error:
        holds("huggingface_hub InferenceClient: a wrong key is a 401", error.response.status_code == 401, error)
    else:
        raise AssertionError("huggingface_hub InferenceClient: a wrong key was taken")
    same("huggingface_hub InferenceClient: a key", InferenceClient(model=KEYED_URL, token=KEY).feature_extraction(TEXTS[0])[0], DENSE[0])


def curl():
    def ask(path, body, *options):
        command = ["curl", "-sS", "--fail-with-body", f"{URL}{path}", "-H", "content-type: application/json", "-d", json.dumps(body), *options]
        return subprocess.run(command, capture_output=True, check=True).stdout

    form = subprocess.run(["curl", "-sS", "-w", "%{http_code}", f"{URL}/v1/embeddings", "-d", '{"input": "a"}'], capture_output=True, check=True)
    holds("curl: a body that says it is a form is refused", form.stdout.endswith(b"415") and b"curl -d" in form.stdout, form.stdout)
    same("curl: /v1/embeddings", [e["embedding"] for e in json.loads(ask("/v1/embeddings", {"input": TEXTS}))["data"]], DENSE)
    same("curl: /embed", json.loads(ask("/embed", {"inputs": TEXTS})), DENSE)
    raw = ask("/v1/encode", {"input": TEXTS}, "-H", "accept: application/octet-stream")
    same("curl: /v1/encode as bytes", np.frombuffer(raw, "<f4").reshape(len(TEXTS), -1), DENSE)
    all_three = json.loads(ask("/v1/encode", {"input": TEXTS, "sparse": True, "colbert": True}))["data"]
    same("curl: /v1/encode, ColBERT", sum([entry["colbert"] for entry in all_three], []), sum([line["colbert"] for line in EXPECTED], []))
    sparse = json.loads(ask("/embed_sparse", {"inputs": TEXTS}))
    for text, (found, line) in enumerate(zip(sparse, EXPECTED)):
        expected = line["sparse"]
        same(f"curl: /embed_sparse, text {text}: ids", [e["index"] for e in found], expected["indices"])
        same(f"curl: /embed_sparse, text {text}: weights", [e["value"] for e in found], expected["values"])


QUERY = "what is a panda?"
DOCUMENTS = ["hi there", "The giant panda is a bear that lives in China.", "pandas eat bamboo", ""]


def rerank(*options):
    """What `trivec rerank` prints, best first: the truth of every check of a reranker's clients."""
    command = [BINARY, "-q", "rerank", "--model", RERANKER, "--json", *options, QUERY, *DOCUMENTS]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def ranked(what, found, top=len(DOCUMENTS)):
    """Pairs of an index and a score."""
    expected = [(line["index"], line["score"]) for line in rerank()][:top]
    holds(f"{what}: order", [index for index, _ in found] == [index for index, _ in expected], found)
    same(f"{what}: scores", [score for _, score in found], [score for _, score in expected])


def cohere_package():
    import cohere

    def pairs(answer):
        return [(result.index, result.relevance_score) for result in answer.results]

    client = cohere.ClientV2(api_key="none", base_url=RERANK_URL)
    ask = dict(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
    ranked("cohere ClientV2: rerank", pairs(client.rerank(**ask)))
    ranked("cohere ClientV2: top_n", pairs(client.rerank(**ask, top_n=2)), 2)
    ranked("cohere ClientV2: max_tokens_per_doc", pairs(client.rerank(**ask, max_tokens_per_doc=4096)))
    client = cohere.Client(api_key="none", base_url=RERANK_URL)
    answer = client.rerank(**{**ask, "documents": [{"text": text, "title": "x"} for text in DOCUMENTS]}, return_documents=True, max_chunks_per_doc=10)
    ranked("cohere Client: documents as objects", pairs(answer))
    holds("cohere Client: return_documents", all(r.document.text == DOCUMENTS[r.index] for r in answer.results), answer)
    try:
        client.rerank(**ask, rank_fields=["title"])
    except cohere.UnprocessableEntityError as error:
        holds("cohere Client: other fields of documents are refused", error.body["error"]["param"] == "rank_fields", error.body)
    else:
        raise AssertionError("cohere Client: other fields of documents were taken")


def voyage_package():
    import voyageai

    client = voyageai.Client(api_key="none", base_url=f"{RERANK_URL}/v1")
    for top in (None, 2):
        answer = client.rerank(QUERY, DOCUMENTS, model="rerank-2.5", top_k=top)
        ranked(f"voyageai: rerank, top_k {top}", [(r.index, r.relevance_score) for r in answer.results], top or len(DOCUMENTS))
    client = voyageai.Client(api_key="none", base_url=f"{URL}/v1")
    for kind in (None, "query", "document"):
        same(f"voyageai: embed, input_type {kind}", client.embed(TEXTS, model="voyage-3", input_type=kind).embeddings, DENSE)
    same("voyageai: embed, output_dimension", client.embed(TEXTS, model="voyage-3", output_dimension=64).embeddings, CUT)
    try:
        client.embed(TEXTS, model="voyage-3", output_dtype="int8")
    except voyageai.error.VoyageError as error:
        holds("voyageai: other types of numbers are refused", error.http_status == 422, error)
    else:
        raise AssertionError("voyageai: another type of numbers was taken")


def litellm_package():
    import litellm

    for model, kind in (
        ("cohere/rerank-v3.5", str), ("jina_ai/rerank", str), ("jina_ai/rerank", dict), ("voyage/rerank-2", str), ("hosted_vllm/m", str),
        ("infinity/m", str), ("huggingface/m", str),
    ):
        documents = DOCUMENTS if kind is str else [{"text": text} for text in DOCUMENTS]
        for top in (None, 2):
            # The address as each of them wants it.
            base = f"{RERANK_URL}/v1/rerank" if model.startswith("jina_ai") else RERANK_URL
            # It would have Infinity's documents as strings, where all others have objects.
            texts = False if model.startswith("infinity") else None
            answer = litellm.rerank(model=model, query=QUERY, documents=documents, top_n=top, return_documents=texts, api_base=base, api_key="none")
            pairs = [(result["index"], result["relevance_score"]) for result in answer.results]
            ranked(f"litellm {model}, documents as {kind.__name__}, top_n {top}", pairs, top or len(DOCUMENTS))
    answer = litellm.rerank(model="hosted_vllm/m", query=QUERY, documents=DOCUMENTS, return_documents=True, api_base=RERANK_URL)
    texts = [result["document"]["text"] for result in answer.results]
    holds("litellm hosted_vllm: return_documents", texts == [DOCUMENTS[r["index"]] for r in answer.results], texts)
    for model in ("openai/m", "hosted_vllm/m", "jina_ai/m", "voyage/m", "infinity/m"):
        base = {"jina_ai/m": f"{URL}/v1/embeddings", "voyage/m": f"{URL}/v1/embeddings", "infinity/m": f"{URL}/v1/embeddings"}.get(model, f"{URL}/v1")
        answer = litellm.embedding(model=model, input=TEXTS, api_base=base, api_key="none")
        same(f"litellm {model}: embedding", [entry["embedding"] for entry in answer.data], DENSE)
    answer = litellm.embedding(model="openai/m", input=TEXTS, api_base=f"{URL}/v1", api_key="none", encoding_format=None)
    same("litellm openai: encoding_format null", [entry["embedding"] for entry in answer.data], DENSE)


PACKAGES = (openai_package, langchain, llama_index, hugging_face_hub, cohere_package, voyage_package, litellm_package, curl)
CLIENTS = {client.__name__: client for client in PACKAGES}
for name in sys.argv[7:] or CLIENTS:
    print(name)
    CLIENTS[name]()
print(f"{checks} checks passed")
