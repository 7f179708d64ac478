#!/usr/bin/env python3
"""What the largest requests do to a service: memory at its peak and some seconds later, and the slowest /health meanwhile, with stock Python.

    tools/large_requests.py --binary target/release/trivec

Three requests at a time on each route: /tokenize with 8 MB of text, /v1/encode with the ColBERT vectors of 40,000 tokens as JSON, npy and
safetensors, /v1/embeddings and /embed with 2,048 texts, /v1/explain with two long texts. Exit 1 if one was not answered.
"""

import argparse
import http.client
import json
import re
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import soak

JSON = {"content-type": "application/json"}


def requests():
    """Name, route, body, headers."""
    words = soak.texts_of([500], 200)
    tokenize = json.dumps({"inputs": ["a " * 2000] * 2000}).encode()
    # A word of these is a token and a little more: the starter cuts each text at 512.
    colbert = json.dumps({"input": words[:79], "dense": False, "colbert": True}).encode()
    short = soak.texts_of([8], 2048)
    yield "tokenize", "/tokenize", tokenize, JSON
    yield "colbert", "/v1/encode", colbert, JSON
    yield "colbert npy", "/v1/encode", colbert, JSON | {"accept": "application/x-npy"}
    yield "colbert safetensors", "/v1/encode", colbert, JSON | {"accept": "application/x-safetensors"}
    yield "embeddings", "/v1/embeddings", json.dumps({"input": short}).encode(), JSON
    yield "embed", "/embed", json.dumps({"inputs": short}).encode(), JSON
    yield "explain", "/v1/explain", json.dumps({"a": words[0], "b": words[1]}).encode(), JSON


def resident(pid, field):
    """Megabytes of a process: `VmRSS` now, `VmHWM` at its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status).group(1)) / 1024


class Health:
    """Asks for /health every 5 ms; the slowest answer in milliseconds."""

    def __init__(self, where):
        self.where, self.slowest, self.ending = where, 0, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection = http.client.HTTPConnection(self.where)
        while not self.ending:
            begin = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            self.slowest = max(self.slowest, (time.perf_counter() - begin) * 1e3)
            time.sleep(0.005)

    def end(self):
        self.ending = True
        self.thread.join()
        return round(self.slowest, 1)


def send(where, path, body, headers, seen):
    connection = http.client.HTTPConnection(where, timeout=600)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    length = 0
    while part := answer.read(1 << 16):
        length += len(part)
    seen.append((answer.status, length))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--binary", required=True)
    options.add_argument("--model", help="[default: the one in the binary]")
    options.add_argument("--only", help="the requests whose name begins so")
    options.add_argument("--together", type=int, default=3, help="how many at once [default: 3]")
    args = options.parse_args()
    server, url = soak.start(args.binary, *(["--model", args.model] if args.model else []))
    where, failed = urlsplit(url).netloc, False
    try:
        print(f"{'':24}{'statuses':>18}{'MB each':>9}{'seconds':>9}{'slowest /health':>17}{'peak MB':>9}{'after 10 s':>12}")
        print(f"{'idle':68}{resident(server.pid, 'VmHWM'):>18.0f}{resident(server.pid, 'VmRSS'):>12.0f}")
        for name, path, body, headers in requests():
            if not name.startswith(args.only or ""):
                continue
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")
            seen, health, begin = [], Health(where), time.perf_counter()
            threads = [threading.Thread(target=send, args=(where, path, body, headers, seen)) for _ in range(args.together)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took, slowest = time.perf_counter() - begin, health.end()
            time.sleep(10)
            statuses = ",".join(str(status) for status, _ in seen)
            failed |= statuses != ",".join(["200"] * args.together)
            size = max((length for _, length in seen), default=0) / 1e6
            peak, after = resident(server.pid, "VmHWM"), resident(server.pid, "VmRSS")
            print(f"{name:24}{statuses:>18}{size:>9.1f}{took:>9.1f}{slowest:>14} ms{peak:>9.0f}{after:>12.0f}", flush=True)
    finally:
        server.terminate()
        server.wait(60)
    sys.exit(failed)


if __name__ == "__main__":
    main()
