"""The Python server that `trivec serve` is measured beside: sentence-transformers behind FastAPI, written as people write it.

    server.py MODEL_DIRECTORY PORT THREADS
"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

directory, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
model = SentenceTransformer(directory, device="cpu", local_files_only=True)
app = FastAPI()


class Request(BaseModel):
    inputs: list[str]


# Not `async`: FastAPI runs it beside its event loop, so that requests do not wait for one another's JSON.
@app.post("/embed")
def embed(request: Request) -> list[list[float]]:
    return model.encode(request.inputs, show_progress_bar=False).tolist()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
