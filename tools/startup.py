#!/usr/bin/env python3
"""How long `trivec serve` takes from its start to its first `/ready`: tools/startup.py --binary target/release/trivec [--model FILE]

The model's file is read once before, so that it is in the page cache. Prints the median and the worst of the runs in milliseconds.
"""

import argparse
import json
import os
import socket
import subprocess
import time

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("--binary", required=True)
options.add_argument("--model", default="starter", help="packed file [default: the starter]")
options.add_argument("--runs", type=int, default=20)
args = options.parse_args()
if os.path.isfile(args.model):
    with open(args.model, "rb") as file:
        while file.read(1 << 24):
            pass


def once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin = time.perf_counter()
    server = subprocess.Popen([args.binary, "-q", "serve", "--port", str(port), "--model", args.model])
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as stream:
                    stream.sendall(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    if stream.recv(64).startswith(b"HTTP/1.1 200"):
                        return time.perf_counter() - begin
            except ConnectionRefusedError:
                pass
            if server.poll() is not None:
                raise SystemExit("the service ended")
            time.sleep(0.0005)
    finally:
        server.terminate()
        server.wait()


times = sorted(once() * 1e3 for _ in range(args.runs))
print(json.dumps({"runs": args.runs, "median_ms": round(times[len(times) // 2], 1), "worst_ms": round(times[-1], 1), "best_ms": round(times[0], 1)}))
