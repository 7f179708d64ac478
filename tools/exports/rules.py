#!/usr/bin/env python3
"""Holds an export to the documented rules of an engine's server, where the server itself cannot be installed (Elasticsearch, Vespa) or what
can be installed checks less than it does (Qdrant).

    rules.py qdrant|elasticsearch|vespa DIRECTORY
"""
import json
import math
import pathlib
import re
import sys
import uuid


class Rules:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.manifest = json.loads((self.directory / "manifest.json").read_text("utf-8"))
        self.where, self.broken = "", []

    def hold(self, good, rule):
        if not good:
            self.broken.append(f"{self.where}: {rule}")

    def lines(self, most_bytes):
        for file in sorted(self.directory.glob("documents-*")):
            self.where = file.name
            self.hold(file.stat().st_size <= most_bytes, f"a request has at most {most_bytes} bytes")
            with open(file, encoding="utf-8") as opened:
                for number, line in enumerate(opened, 1):
                    self.where = f"{file.name}, line {number}"
                    yield json.loads(line, parse_constant=lambda word: self.hold(False, f"{word} is not JSON"))

    def vector(self, values, length):
        self.hold(len(values) == length and all(isinstance(x, (int, float)) and math.isfinite(x) for x in values), f"{length} finite numbers")


def qdrant(rules):
    """Ids: unsigned numbers or UUIDs. Sparse indices: unique, 32 bits. Multivectors: 1 to 1,023 rows (lib/common/common/src/validation.rs).
    A body of REST: 32 MB."""
    seen = set()
    for row in rules.lines(32 << 20):
        rules.hold(str(uuid.UUID(row["id"])) == row["id"] and row["id"] not in seen, "an id is a UUID that no other has")
        seen.add(row["id"])
        vector = row["vector"]
        rules.vector(vector["dense"], rules.manifest["dense_dim"])
        if "sparse" in vector:
            indices, values = vector["sparse"]["indices"], vector["sparse"]["values"]
            rules.hold(0 < len(indices) == len(values) == len(set(indices)) and indices == sorted(indices), "indices are unique and in order")
            rules.hold(all(0 <= index < 1 << 32 for index in indices), "an index has 32 bits")
            rules.vector(values, len(indices))
        if "colbert" in vector:
            rules.hold(1 <= len(vector["colbert"]) <= 1023, "a multivector has 1 to 1,023 rows")
            for values in vector["colbert"]:
                rules.vector(values, rules.manifest["colbert_dim"])
    rules.hold(len(seen) == rules.manifest["entries"], "every document is there once")


def elasticsearch(rules):
    """A bulk request: an action, then its source. `_id`: at most 512 bytes. `dense_vector`: as many dimensions as the mapping (at most 4,096),
    not of length 0 under cosine. `sparse_vector`: positive weights by names without dots. `dynamic: strict`: no field that is not mapped.
    `keyword` without `ignore_above`: at most 32,766 bytes. A request: 100 MB."""
    mapping = json.loads((rules.directory / "mapping.json").read_text("utf-8"))["mappings"]
    rules.hold(mapping["dynamic"] == "strict", "the mapping is strict")
    fields = mapping["properties"]
    rules.hold(fields["dense"]["dims"] <= 4096, "a dense_vector has at most 4,096 dimensions")
    ids, rows = [], rules.lines(100_000_000)
    for action in rows:
        rules.hold(list(action) == ["index"] and list(action["index"]) == ["_id"], "a line of action, then one of source")
        identifier = action["index"]["_id"]
        rules.hold(0 < len(identifier.encode()) <= 512, "an _id has 1 to 512 bytes")
        ids.append(identifier)
        source = next(rows)
        rules.hold(set(source) <= set(fields), f"a field is not mapped: {set(source) - set(fields)}")
        for name, value in source.items():
            kind = fields[name]["type"]
            if kind == "keyword":
                rules.hold(isinstance(value, str) and len(value.encode()) <= 32_766, f"{name}: a keyword of at most 32,766 bytes")
            elif kind == "text":
                rules.hold(isinstance(value, str), f"{name}: a text")
            elif kind == "flattened":
                rules.hold(isinstance(value, dict), f"{name}: an object")
            elif kind == "dense_vector":
                rules.vector(value, fields[name]["dims"])
                rules.hold(any(value), "a vector has a length above 0")
            elif kind == "sparse_vector":
                rules.hold(value and all("." not in token and token for token in value), "names of a sparse_vector have no dots")
                rules.hold(all(math.isfinite(weight) and weight > 0 for weight in value.values()), "weights are positive")
    rules.hold(len(set(ids)) == len(ids) == rules.manifest["entries"], "every document is there once")


def vespa(rules):
    """An operation: `put` with `id:namespace:type::key` and the fields of the schema. Strings: no control characters but tab and line ends, no
    noncharacters. Tensors in short forms: `values` of an indexed one, `cells` of a mapped one, `blocks` of a mixed one."""
    schema = (rules.directory / "entry.sd").read_text("utf-8")
    fields = dict(re.findall(r"field (\w+) type (\S+(?:, \S+)?) \{", schema))
    rules.hold(re.search(r"schema (\w+) \{\s*document (\w+) \{", schema).groups() == ("entry", "entry"), "schema and document type have one name")
    tensor = re.compile(r"tensor<(?:float|bfloat16)>\((.*)\)")
    size = {name: int(found[1]) for name, kind in fields.items() if (found := re.search(r"x\[(\d+)\]", kind))}
    text = lambda value: all(c in "\t\n\r" or (c >= " " and c != "\x7f" and not 0xFDD0 <= ord(c) <= 0xFDEF and ord(c) & 0xFFFE != 0xFFFE) for c in value)
    ids = set()
    for row in rules.lines(1 << 40):
        rules.hold(set(row) == {"put", "fields"} and re.fullmatch(r"id:trivec:entry::.+", row["put"], re.S), "an operation with an id")
        ids.add(row["put"])
        rules.hold(set(row["fields"]) <= set(fields), f"a field is not in the schema: {set(row['fields']) - set(fields)}")
        for name, value in row["fields"].items():
            if fields[name] == "string":
                rules.hold(isinstance(value, str) and text(value), f"{name}: a string of characters that are taken")
                continue
            rules.hold(tensor.fullmatch(fields[name]), f"{name}: a tensor")
            if "{}" not in fields[name]:
                rules.vector(value["values"], size[name])
            elif name not in size:
                rules.hold(value["cells"] and all(math.isfinite(x) for x in value["cells"].values()), f"{name}: cells of finite numbers")
            else:
                for block in value["blocks"].values():
                    rules.vector(block, size[name])
    rules.hold(len(ids) == rules.manifest["entries"], "every document is there once")


if len(sys.argv) != 3 or sys.argv[1] not in ("qdrant", "elasticsearch", "vespa"):
    sys.exit(__doc__)
rules = Rules(sys.argv[2])
globals()[sys.argv[1]](rules)
for line in rules.broken[:20]:
    print(line)
if rules.broken:
    sys.exit(f"{len(rules.broken)} rules broken")
print(f"{rules.manifest['documents']} documents keep the server's rules")
