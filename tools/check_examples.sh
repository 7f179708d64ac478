#!/usr/bin/env bash
# Builds all examples, runs each, and compares what it prints with the ```text block in its head.
# `--write` puts what they print into those blocks.
set -euo pipefail
cargo build --release --examples
python3 - "${1:-}" <<'END'
import pathlib, re, subprocess, sys

# Measures an index of synthetic vectors: it needs a directory, and its figures differ from run to run.
TOOLS = {"search_speed"}
BLOCK = re.compile(r"(//! ```text\n)((?://!.*\n)*?)(//! ```\n)")
bad = []
examples = sorted(pathlib.Path(".").glob("examples/*.rs")) + sorted(pathlib.Path(".").glob("crates/*/examples/*.rs"))
ran = [path for path in examples if path.stem not in TOOLS]
for path in ran:
    source = path.read_text()
    if f"cargo run --release --example {path.stem}" not in source:
        bad.append(f"{path}: its head does not have the command that runs it")
    block = BLOCK.search(source)
    if not block:
        bad.append(f"{path}: its head has no ```text block with what it prints")
        continue
    done = subprocess.run([f"target/release/examples/{path.stem}"], capture_output=True, text=True, timeout=300)
    if done.returncode:
        bad.append(f"{path}: ended with {done.returncode}: {done.stderr.strip()}")
        continue
    printed = "".join(f"//! {line}".rstrip() + "\n" for line in done.stdout.splitlines())
    if printed != block[2]:
        if sys.argv[1] == "--write":
            path.write_text(source[: block.start(2)] + printed + source[block.end(2) :])
        else:
            bad.append(f"{path}: it prints\n{printed}and its head says\n{block[2]}")
    print(f"{path}: {'written' if sys.argv[1] == '--write' else 'prints what its head says'}")
sys.exit("\n".join(bad) or (0 if len(ran) >= 8 else "fewer than eight examples"))
END
