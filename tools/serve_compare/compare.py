"""`trivec serve` and a Python server on the same weights, one after the other, under the same clients. Started by run.sh.

Both are asked the same texts; first that they answer the same vectors. The table is markdown.
"""

import argparse
import http.client
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import soak
from reference import dequantize_q4_0
from safetensors import safe_open
from safetensors.torch import save_file

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--binary", required=True, help="trivec")
options.add_argument("--model", required=True, help="model directory in Hugging Face layout")
options.add_argument("--clients", default="1,64", help="numbers of clients, one after another")
options.add_argument("--seconds", type=float, default=60)
options.add_argument("--words", default=",".join(map(str, soak.MIX)), help="words of a text, chosen among evenly")
args = options.parse_args()
texts = soak.texts_of([int(words) for words in args.words.split(",")])
threads = len(os.sched_getaffinity(0))


def plain(directory, target):
    """The model's directory with 4-bit blocks, which PyTorch does not know, as f32: the same numbers."""
    shutil.copytree(directory, target)
    for path in Path(target).rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            is_q4 = (file.metadata() or {}).get("trivec.q4_0") == "1"
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if is_q4:
            widen = lambda t: dequantize_q4_0(t) if str(t.dtype) == "torch.uint8" else t.float()
            save_file({name: widen(t).contiguous() for name, t in tensors.items()}, path, {"format": "pt"})


work = tempfile.TemporaryDirectory()
plain(args.model, f"{work.name}/model")


def python_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).parent / "server.py"), f"{work.name}/model", str(port), str(threads)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    server = subprocess.Popen(command, env=environment)
    for _ in range(3000):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return server, f"http://127.0.0.1:{port}"
        except OSError:
            pass
        if server.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit("the Python server did not start")


def vectors(url):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", "/embed", json.dumps({"inputs": texts[:32]}), {"content-type": "application/json"})
    return json.loads(connection.getresponse().read())


servers = {
    "trivec serve": lambda: soak.start(args.binary, "--model", args.model),
    "sentence-transformers, FastAPI": python_server,
}
reports, answers = {}, {}
for name, start in servers.items():
    begin = time.perf_counter()
    server, url = start()
    ready = time.perf_counter() - begin
    try:
        answers[name] = vectors(url)
        soak.run(url, 4, min(5.0, args.seconds / 4), texts=texts)  # warm
        for clients in map(int, args.clients.split(",")):
            reports[name, clients] = soak.run(url, clients, args.seconds, server.pid, texts=texts) | {"ready_s": round(ready, 2)}
    finally:
        server.terminate()
        server.wait()

ours, theirs = answers.values()
cosine = lambda a, b: sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
worst = min(cosine(a, b) for a, b in zip(ours, theirs))
if worst < 0.999:
    sys.exit(f"the servers answer different vectors: cosine {worst}")
print(f"{args.seconds:g} s each, {threads} CPUs, one text a request, {args.words} words; least cosine between the two {worst:.6f}\n")
print("| server | clients | requests/s | p50 ms | p99 ms | errors | RSS MB | ready s | CPUs of the clients |")
print("|---|---|---|---|---|---|---|---|---|")
for (name, clients), r in reports.items():
    errors = sum(r["errors"].values())
    print(f"| {name} | {clients} | {r['requests_s']} | {r['p50_ms']} | {r['p99_ms']} | {errors} | {r.get('rss_max_mb')} | {r['ready_s']} | {r['client_cpus']} |")
a, b = servers
print()
for clients in map(int, args.clients.split(",")):
    x, y = reports[a, clients], reports[b, clients]
    if x["requests"] and y["requests"]:
        ratio, tail = x["requests_s"] / y["requests_s"], y["p99_ms"] / x["p99_ms"]
        print(f"{clients} clients: {ratio:.1f} times the throughput, p99 {tail:.1f} times shorter")
