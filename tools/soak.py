#!/usr/bin/env python3
"""Many clients on an HTTP embedding service for a time, with stock Python: throughput, latencies, errors, and the server's memory.

    tools/soak.py --binary target/release/trivec --seconds 60
    tools/soak.py --url http://127.0.0.1:8737 --pid 4711 --clients 64 --seconds 600

With --binary it starts `trivec serve` itself, and `trivec bench` first says what the engine alone does with the same texts' lengths; without,
it asks what runs at --url. Exit 1 if a request failed. The clients are processes of their own: on a small machine they take CPU from the
server, and the report says how much.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import random
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

STARTER = str(Path(__file__).resolve().parent.parent / "models/starter")

# Words of a text: a mix of what is searched for, sentences and passages, its shares as often as they are named.
MIX = [4, 4, 4, 8, 8, 16, 16, 32, 64, 128]
WORDS = "the river bends past an old mill where grain was ground for bread and news was told by people who came from far".split()


def texts_of(words, count=256, seed=7):
    choose = random.Random(seed)
    return [" ".join(choose.choice(WORDS) for _ in range(choose.choice(words))) for _ in range(count)]


def client(url, path, field, texts, seconds, ready, results, seed):
    """One process with one connection: requests one after another until the time is over."""
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    bodies = [json.dumps({field: [text]}).encode() for text in texts]
    choose, latencies, errors = random.Random(seed), [], {}
    connection = kind(where.hostname, where.port, timeout=60)
    ready.wait()
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        try:
            connection.request("POST", path, choose.choice(bodies), {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            outcome = None if answer.status == 200 else str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
            connection.close()
            connection = kind(where.hostname, where.port, timeout=60)
        if outcome is None:
            latencies.append(time.perf_counter() - begin)
        else:
            errors[outcome] = errors.get(outcome, 0) + 1
    usage = os.times()
    results.put((latencies, errors, usage.user + usage.system))


def memory(pid):
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) * 1024


WRK = """
local bodies = {%s}
math.randomseed(7)
request = function() return wrk.format("POST", "%s", {["content-type"] = "application/json"}, bodies[math.random(#bodies)]) end
done = function(summary, latency, requests)
  local e, at = summary.errors, function(share) return latency:percentile(share) / 1e3 end
  io.write(string.format("\\nRESULT %%d %%f %%d %%d %%f %%f %%f %%f\\n", summary.requests, summary.duration / 1e6, e.status,
    e.connect + e.read + e.write + e.timeout, at(50), at(90), at(99), latency.max / 1e3))
end
"""


def run_wrk(url, clients, seconds, pid, path, field, texts):
    """As `run`, by wrk (https://github.com/wg/wrk, a package of most systems) in the clients' place: it takes next to no CPU."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK % (",".join(f"[=[{json.dumps({field: [text]})}]=]" for text in texts), path))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "-s", script.name, url]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begin, rss = time.perf_counter(), []
        while load.poll() is None:
            if pid and time.perf_counter() - begin > seconds / 10:
                rss.append(memory(pid))
            time.sleep(min(1.0, seconds / 20))
    requests, took, status, broken, *at = map(float, load.stdout.read().split("RESULT ")[1].split())
    errors = {name: int(count) for name, count in [("status", status), ("connection", broken)] if count}
    names = ["p50_ms", "p90_ms", "p99_ms", "max_ms"]
    report = {"clients": clients, "seconds": round(took, 2), "requests": int(requests), "errors": errors}
    return report | {"requests_s": round(requests / took, 1)} | {name: round(ms, 3) for name, ms in zip(names, at)} | growth(rss)


def growth(rss):
    """Resident memory from first to last."""
    if not rss:
        return {}
    return {"rss_start_mb": round(rss[0] / 1e6, 1), "rss_end_mb": round(rss[-1] / 1e6, 1), "rss_max_mb": round(max(rss) / 1e6, 1)}


def run(url, clients, seconds, pid=None, path="/embed", field="inputs", texts=None):
    """Runs the clients; a dictionary of what they saw."""
    texts = texts or texts_of(MIX)
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(clients + 1), context.Queue()
    processes = [
        context.Process(target=client, args=(url, path, field, texts, seconds, ready, results, seed)) for seed in range(clients)
    ]
    for process in processes:
        process.start()
    ready.wait()
    begin = time.perf_counter()
    rss = []
    # The first tenth fills buffers; what is there then is where memory starts.
    while (elapsed := time.perf_counter() - begin) < seconds:
        if pid and elapsed > seconds / 10:
            rss.append(memory(pid))
        time.sleep(min(1.0, seconds / 20))
    seen = [results.get() for _ in processes]
    took = time.perf_counter() - begin
    for process in processes:
        process.join()
    latencies = sorted(latency for own, _, _ in seen for latency in own)
    errors = {}
    for _, own, _ in seen:
        for name, count in own.items():
            errors[name] = errors.get(name, 0) + count
    at = lambda share: round(latencies[min(int(len(latencies) * share), len(latencies) - 1)] * 1e3, 3) if latencies else None
    report = {
        "clients": clients, "seconds": round(took, 2), "requests": len(latencies), "errors": errors,
        "requests_s": round(len(latencies) / took, 1), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
        "client_cpus": round(sum(cpu for *_, cpu in seen) / took, 2),
    }
    return report | growth(rss)


def health_beside(url, count):
    """The time of 20 answers of /health while `count` connections are open, half of them silent and half of them with half a request."""
    where = urlsplit(url)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    slow = [socket.create_connection((where.hostname, where.port)) for _ in range(count)]
    for connection in slow[::2]:
        connection.sendall(b"GET /health HT")
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        with urllib.request.urlopen(f"{url}/health") as answer:
            answer.read()
        times.append((time.perf_counter() - begin) * 1e3)
    for connection in slow:
        connection.close()
    times.sort()
    return {"slow_connections": count, "health_min_ms": round(times[0], 3), "health_median_ms": round(times[10], 3)}


def start(binary, *options):
    """`trivec serve` on a free port: the process and its address."""
    errors = tempfile.TemporaryFile("w+")
    server = subprocess.Popen([binary, "serve", "--port", "0", "--log-level", "warn", *options], stderr=errors)
    for _ in range(500):
        errors.seek(0)
        if found := re.search(r"listening on (http\S+)", errors.read()):
            return server, found.group(1)
        if server.poll() is not None:
            break
        time.sleep(0.02)
    errors.seek(0)
    sys.exit(f"{binary} serve did not start: {errors.read()}")


def engine_rate(binary, url, texts, model):
    """Texts a second of the engine alone, on the same tokens in batches as large as the service makes them."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    connection.request("POST", "/tokenize", json.dumps({"inputs": texts}))
    ids = [[token["id"] for token in text] for text in json.loads(connection.getresponse().read())]
    worker = subprocess.Popen(
        [binary, "bench", "--worker", "--model", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    out, _ = worker.communicate(json.dumps({"lengths": [len(text) for text in ids], "runs": 5}) + "\n")
    times = next(answer["ms"] for answer in map(json.loads, out.splitlines()) if "ms" in answer)
    return len(texts) / (sorted(times)[len(times) // 2] / 1e3)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", help="a service that runs already")
    options.add_argument("--pid", type=int, help="its process, for its memory")
    options.add_argument("--binary", help="trivec: start a service for the run")
    options.add_argument("--model", default=STARTER, help="with --binary: the model [default: models/starter]")
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--path", default="/embed", help="route [default: /embed]")
    options.add_argument("--field", default="inputs", help="name of the texts in its body [default: inputs]")
    options.add_argument("--words", default=",".join(map(str, MIX)), help="words of a text, chosen among evenly")
    options.add_argument("--wrk", action="store_true", help="let wrk send the requests")
    options.add_argument("--slow", type=int, metavar="N", help="before the load, also time /health beside N slow connections")
    args = options.parse_args()
    if bool(args.url) == bool(args.binary):
        options.error("either --url or --binary")
    texts = texts_of([int(words) for words in args.words.split(",")])
    server, url, rate = None, args.url, None
    if args.binary:
        server, url = start(args.binary, "--model", args.model)
    try:
        if server:
            rate = engine_rate(args.binary, url, texts, args.model)
        health = health_beside(url, args.slow) if args.slow else {}
        drive = run_wrk if args.wrk else run
        report = drive(url, args.clients, args.seconds, server.pid if server else args.pid, args.path, args.field, texts)
    finally:
        if server:
            server.terminate()
            code = server.wait(60)
    report |= health
    if rate:
        report |= {"engine_texts_s": round(rate, 1), "share_of_engine": round(report["requests_s"] / rate, 3), "exit": code}
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["errors"]))


if __name__ == "__main__":
    main()
