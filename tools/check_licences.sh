#!/usr/bin/env bash
# Every dependency comes from the registry and has a licence that deny.toml allows. With cargo-deny installed, it is asked too.
set -euo pipefail
cargo metadata --format-version 1 --locked --all-features | python3 -c '
import json, re, sys, tomllib
allowed = set(tomllib.load(open("deny.toml", "rb"))["licenses"]["allow"])
bad = []
for p in json.load(sys.stdin)["packages"]:
    if p["source"] is None:
        continue
    licence = (p["license"] or "").replace("/", " OR ")
    def ok(text):
        text = text.strip()
        if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            text = text[1:-1]
        if " AND " in text:
            return all(ok(part) for part in re.split(r" AND (?![^(]*\))", text)) if re.search(r" AND (?![^(]*\))", text) else any(ok(t) for t in text.split(" OR "))
        return any(part.strip("() ") in allowed for part in text.split(" OR "))
    if not p["source"].startswith("registry+") or not ok(licence):
        bad.append("%s: %s, %s" % (p["name"], licence, p["source"]))
print("\n".join(bad) or "all licences and sources are allowed")
sys.exit(bool(bad))
'
if command -v cargo-deny >/dev/null; then cargo deny --offline check licenses bans sources; fi
