#!/usr/bin/env python3
"""Markdown tables from records of bench.py.

    report.py RECORD.json              prints everything that a record has
    report.py --into FILE.md ...       writes the tables between markers again
    report.py --check FILE.md ...      ends with 1 if a table is not what its record says

Markers, with PATH relative to benches/record; the name of a directory alone means its newest record without `isa`:

    <!-- record: PATH -->                      a record's times, ratios and what was left out
    <!-- end of record -->
    <!-- speed: LABEL = PATH; LABEL = PATH --> trivec's times of several records, with the ratio to the best other engine
    <!-- end of speed -->
"""

import json
import re
import sys
from pathlib import Path

RECORDS = Path(__file__).resolve().parents[2] / "benches" / "record"
LAYERS, HIDDEN = 24, 1024
LAYER_WEIGHTS = LAYERS * 12 * HIDDEN * HIDDEN
NAMES = {
    "trivec": "trivec", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "ctranslate2": "CTranslate2", "llama": "llama.cpp",
    "pytorch": "PyTorch", "zentorch": "PyTorch, zentorch",
}
UNITS = {"read_gb_s": "GB/s read", "int8_gop_s": "int8 Gop/s", "bf16_gflop_s": "bf16 Gflop/s", "f32_gflop_s": "f32 Gflop/s"}


def limit_ms(shape, row, limits):
    """The shape cannot be faster than its layer weights are read once, nor than its operations at the peak rate."""
    texts, length = map(int, shape.split("x"))
    operations = texts * (2 * length * LAYER_WEIGHTS + 4 * length * length * HIDDEN * LAYERS)
    read_s = LAYER_WEIGHTS * row["bits"] / 8 / (1e9 * limits["read_gb_s"])
    return 1000 * max(read_s, operations / (1e9 * limits[row["peak"]]))


def digits(ms):
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def table(head, lines):
    rule = "|---|---|" + "---:|" * (len(head) - 2)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines), ""])


def heading(record):
    held = f", every engine held to {record['isa']}" if record["isa"] else ""
    if record["isa"] and any(not row["in_ratio"] for row in record["rows"]):
        held = f", engines held to {record['isa']} where they can be"
    version = record.get("commit") or record.get("trivec")
    trivec = f", trivec {version}" if version else ""
    return f"{record['cpu']} ({record['slug']}), {record['threads']} threads{held}; {record['date']}{trivec}."


def times(record):
    shapes = record["shapes"]
    mixed = any("mixed_s" in row for row in record["rows"])
    head = ["engine", "weights", *shapes, *(["mixed s"] if mixed else []), "cos", "load s", "peak MB"]
    lines = []
    for row in record["rows"]:
        cells = [digits(row["ms"][s]["median"]) if s in row["ms"] else "-" for s in shapes]
        if mixed:
            batch = f" (by {row['mixed_batch']})" if row.get("mixed_batch") else ""
            cells.append(f"{row['mixed_s']:.1f}{batch}" if "mixed_s" in row else "-")
        cosine = "-" if row["cos"] is None else f"{row['cos']:.4f}"
        mark = "" if row["in_ratio"] else " *"
        name = f"{NAMES.get(row['engine'], row['engine'])} {row['version']}".strip()
        lines.append([name + mark, row["weights"], *cells, cosine, f"{row['load_s']:.2f}", f"{row['peak_mb']:,}"])
    return table(head, lines)


def shares(record):
    limits = record["limits"]
    known = [row for row in record["rows"] if limits and limits.get(row["peak"]) and limits.get("read_gb_s")]
    lines = [
        [NAMES.get(row["engine"], row["engine"]), row["weights"]]
        + [f"{100 * limit_ms(s, row, limits) / row['ms'][s]['median']:.0f} %" if s in row["ms"] else "-" for s in record["shapes"]]
        for row in known
    ]
    return table(["engine", "weights", *record["shapes"]], lines) if lines else ""


def ratios(record):
    if not any(record["ratios"].values()):
        return ""
    columns = [*record["shapes"], *(["mixed"] if any("mixed" in of for of in record["ratios"].values()) else [])]
    lines = [
        ["best other / trivec", weights, *(f"{of[c]['ratio']:.2f}" if c in of else "-" for c in columns)]
        for weights, of in record["ratios"].items()
    ]
    best = next(of for of in record["ratios"].values() if of)
    lines.append(["the best other", "", *(best[c]["best_other"] if c in best else "-" for c in columns)])
    return table(["", "weights", *columns], lines)


def spread(record):
    """How far the runs of one row and shape lie apart, at worst."""
    worst = max(((m["q3"] - m["q1"]) / m["median"], row, s) for row in record["rows"] for s, m in row["ms"].items())
    return f"half of all runs lie within {100 * worst[0]:.0f} % at worst ({worst[1]['engine']} {worst[1]['weights']}, {worst[2]})"


def notes(record):
    lines = []
    if record["isa"]:
        for row in record["rows"]:
            if not row["in_ratio"]:
                lines.append(f"- \\* {row['engine']} {row['weights']} cannot be held to {record['isa']}, so no ratio counts it: {row['not_held']}.")
    lines += [f"- {name} left out: {why}" for name, why in record["left_out"].items()]
    return "\n".join(lines)


def limits_line(record):
    limits = record["limits"]
    if not limits:
        return ""
    return "Limits by `trivec bench --probe`: " + ", ".join(f"{limits[k]:.0f} {unit}" for k, unit in UNITS.items() if k in limits) + "."


def full(record):
    lengths = record["lengths"]
    mixed = f" mixed: {len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, seconds;" if lengths else ""
    parts = [
        heading(record),
        f"Median ms of a forward pass, texts x tokens ({spread(record)});{mixed} cos: mean cosine of CLS vectors with fp32.",
        limits_line(record),
        f"{record['rounds']} rounds a shape; {record['refused']} rounds were refused and repeated because other processes took more than 5 % of a core.",
        "\n" + times(record),
        "Best other engine's time / trivec's (over 1: trivec is faster):\n\n" + ratios(record) if record["ratios"] else "",
        shares(record) and "Share of the machine's limit (the layers' weights read once, or the operations at the peak rate of the row's"
        " arithmetic):\n\n" + shares(record),
        notes(record),
    ]
    return "\n".join(part for part in parts if part.strip()).rstrip() + "\n"


def short(record):
    """For documents: times, ratios and what was left out."""
    parts = [heading(record) + " " + limits_line(record), "", times(record), ratios(record), notes(record)]
    return "\n".join(parts).strip() + "\n"


def compact(labelled):
    """For the README: a row for each kind of weights of each record, milliseconds with the best other engine's ratio in brackets."""
    shapes = [shape for shape in labelled[0][1]["shapes"] if all(shape in record["shapes"] for _, record in labelled)]
    lines = []
    for label, record in labelled:
        for row in (row for row in record["rows"] if row["engine"] == "trivec"):
            of = record["ratios"].get(row["weights"], {})
            cells = [
                digits(row["ms"][s]["median"]) + (f" ({of[s]['ratio']:.2f})" if s in of else "") if s in row["ms"] else "-" for s in shapes
            ]
            lines.append([f"{label}, {row['weights']}", *cells])
    rule = "|---|" + "---:|" * len(shapes)
    rows = ["| | " + " | ".join(shapes) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)]
    sources = " ".join(f"{label}: {heading(record)}" for label, record in labelled)
    return "\n".join(rows) + "\n\n" + sources + "\n"


def record_at(path):
    """The record at a path below benches/record; of a directory the newest one in which no engine was held to an instruction set."""
    place = RECORDS / path
    if not place.is_dir():
        if not place.is_file():
            raise Wrong(f"there is no record {path} in {RECORDS}")
        return json.loads(place.read_text())
    # The dates sort as text; a second record of a day has a number after the date.
    order = lambda file: (file.stem[:10], int(file.stem[11:] or 1))
    for file in sorted(place.glob("*.json"), key=order, reverse=True):
        record = json.loads(file.read_text())
        if not record["isa"]:
            return record
    raise Wrong(f"there is no record without `isa` in {place}")


class Wrong(Exception):
    """A document or a marker that cannot be used."""


def tables_of(kind, argument):
    if kind == "record":
        return short(record_at(argument))
    pairs = [pair.split("=", 1) for pair in argument.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise Wrong(f"`speed: {argument}`: expected `LABEL = PATH; LABEL = PATH`")
    return compact([(label.strip(), record_at(path.strip())) for label, path in pairs])


MARKED = re.compile(r"(<!-- (record|speed): ([^>]+?) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def renewed(text):
    """A document with the tables of its records made again."""
    return MARKED.sub(lambda found: found[1] + tables_of(found[2], found[3]) + found[4], text)


def update(path, check):
    """Writes a document's tables again, or compares them; says how many there are."""
    old = path.read_text()
    markers, tables = len(re.findall(r"<!-- (?:record|speed): ", old)), len(MARKED.findall(old))
    if markers != tables:
        raise Wrong(f"{path}: {markers} tables begin, {tables} of them also end")
    new = renewed(old)
    if check and new != old:
        raise Wrong(f"{path}: its tables are not those of the records; run tools/peers/report.py --into {path}")
    if new != old:
        path.write_text(new)
    return tables


def main(arguments):
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        print(full(json.loads(Path(arguments[0]).read_text())), end="")
        return 0
    if len(arguments) < 2 or arguments[0] not in ("--into", "--check"):
        return __doc__
    check = arguments[0] == "--check"
    try:
        tables = sum(update(Path(path), check) for path in arguments[1:])
    except Wrong as why:
        return str(why)
    print(f"{tables} tables " + ("are those of their records" if check else "written"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
