#!/usr/bin/env bash
# Fails if a dependency of the packages (tests and benches aside) needs a newer Rust than `rust-version`, or the compiler is older.
set -euo pipefail
cargo metadata --format-version 1 --locked --all-features | python3 -c '
import json, sys
data = json.load(sys.stdin)
packages = {p["id"]: p for p in data["packages"]}
nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
version = lambda text: tuple(int(part) for part in (text.split(".") + ["0", "0"])[:3])
roots = [i for i in data["workspace_members"] if packages[i]["name"] != "trivec-testing"]
ours = version(packages[roots[0]]["rust_version"])
seen, open_ = set(), list(roots)
while open_:
    node = open_.pop()
    if node not in seen:
        seen.add(node)
        deps = nodes[node]["deps"]
        open_ += [d["pkg"] for d in deps if any(k["kind"] != "dev" for k in d["dep_kinds"])]
newer = [packages[i]["name"] for i in seen if version(packages[i]["rust_version"] or "0") > ours]
print(len(seen), "packages, rust-version", packages[roots[0]]["rust_version"])
sys.exit("need a newer Rust: " + ", ".join(newer) if newer else 0)
'
