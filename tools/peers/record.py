"""What is kept of a measurement: benches/record/<cpu>/<date>.json, from which report.py makes the tables."""

import datetime
import json
from pathlib import Path
from statistics import median, quantiles

FORMAT = 1
ROOT = Path(__file__).resolve().parents[2]


def summary(times):
    """Median, quartiles and count of some runs' milliseconds."""
    first, _, third = quantiles(times, n=4, method="inclusive") if len(times) > 1 else (times[0],) * 3
    return {"median": round(median(times), 3), "q1": round(first, 3), "q3": round(third, 3), "runs": len(times)}


def row_of(row, cosine):
    entry = {
        "engine": row.engine, "version": row.version, "weights": row.variant, "bits": row.bits, "peak": row.peak,
        "held_by": row.held_by, "in_ratio": row.not_held is None, "not_held": row.not_held, "load_s": round(row.load_s, 3),
        "peak_mb": round(row.rss_mb), "cos": None if cosine is None else round(cosine, 5),
        "ms": {f"{texts}x{length}": summary(times) for (texts, length), times in row.shapes.items()},
    }
    if row.mixed:
        best = min(row.mixed, key=lambda batch: min(row.mixed[batch]))
        entry["mixed_s"] = round(min(row.mixed[best]) / 1000, 3)
        entry["mixed_batch"] = None if row.is_trivec else best
    return entry


def ratios(rows, shapes):
    """For each of trivec's rows and shapes: the best other engine's median over trivec's. Engines that were not held to the set do not
    count."""
    found = {}
    others = [row for row in rows if row["engine"] != "trivec" and row["in_ratio"]]

    def best(value):
        return min(((value(row), f"{row['engine']} {row['weights']}") for row in others if value(row)), default=None)

    def of(row, value):
        other = best(value)
        return other and value(row) and {"ratio": round(other[0] / value(row), 3), "best_other": other[1]}

    for row in (row for row in rows if row["engine"] == "trivec"):
        mine = {shape: of(row, lambda r, s=shape: r["ms"].get(s, {}).get("median")) for shape in shapes}
        mine["mixed"] = of(row, lambda r: r.get("mixed_s"))
        found[row["weights"]] = {shape: ratio for shape, ratio in mine.items() if ratio}
    return found


def path_for(directory, slug, date):
    """A file that is not there yet: a second record of one day gets a number."""
    path, number = directory / slug / f"{date}.json", 2
    while path.exists():
        path, number = directory / slug / f"{date}-{number}.json", number + 1
    return path


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def write(record, directory):
    path = path_for(directory, record["slug"], record["date"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(record))
    return path


def text_of(record):
    """JSON with a line for every row's shape, so that two records can be compared line by line."""
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"
