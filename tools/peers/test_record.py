"""Tests of records and the tables made from them."""

import json
import tempfile
import unittest
from pathlib import Path

import record
import report


def row(engine, weights, ms, in_ratio=True, **more):
    return {
        "engine": engine, "version": "1", "weights": weights, "bits": 8, "peak": "int8_gop_s", "in_ratio": in_ratio,
        "not_held": None if in_ratio else "it reads no variable", "load_s": 1.0, "peak_mb": 1000, "cos": 0.99, "held_by": {},
        "ms": {shape: {"median": m, "q1": m, "q3": m * 1.01, "runs": 5} for shape, m in ms.items()}, **more,
    }


class Records(unittest.TestCase):
    def rows(self):
        return [
            row("trivec", "int8", {"1x8": 10, "1x32": 20}, mixed_s=4.0),
            row("openvino", "int8-static", {"1x8": 15, "1x32": 30}, mixed_s=5.0),
            row("onnxruntime", "int8", {"1x8": 5, "1x32": 5}, in_ratio=False, mixed_s=1.0),
        ]

    def record(self):
        rows = self.rows()
        return {
            "format": 1, "date": "2026-11-30", "cpu": "AMD EPYC", "slug": "amd-epyc-zen3-2c", "cores": 2, "threads": 2, "isa": "avx2",
            "trivec": "0.1.0", "commit": "abc", "limits": {"read_gb_s": 30, "int8_gop_s": 1500}, "shapes": ["1x8", "1x32"], "rounds": 5,
            "refused": 0, "lengths": [8, 9], "rows": rows, "ratios": record.ratios(rows, ["1x8", "1x32"]), "left_out": {"x y": "no wheel"},
        }

    def test_engines_that_are_not_held_count_in_no_ratio(self):
        found = record.ratios(self.rows(), ["1x8", "1x32"])["int8"]
        self.assertEqual(found["1x8"], {"ratio": 1.5, "best_other": "openvino int8-static"})
        self.assertEqual(found["mixed"]["ratio"], 1.25)

    def test_the_table_says_who_was_not_held(self):
        text = report.full(self.record())
        self.assertIn("onnxruntime int8 cannot be held to avx2, so no ratio counts it: it reads no variable", text)
        self.assertIn("| ONNX Runtime 1 * | int8 | 5.0 |", text)
        self.assertIn("x y left out: no wheel", text)
        # 302 million weights of a byte at 30 GB/s are 10.07 ms, 101 % of the 10 ms of trivec's row.
        self.assertIn("| trivec | int8 | 101 % |", text)

    def test_quartiles(self):
        self.assertEqual(record.summary([1, 2, 3, 4, 5]), {"median": 3, "q1": 2, "q3": 4, "runs": 5})
        self.assertEqual(record.summary([7]), {"median": 7, "q1": 7, "q3": 7, "runs": 1})

    def test_a_second_record_of_a_day_leaves_the_first(self):
        with tempfile.TemporaryDirectory() as directory:
            first, second = (record.write(self.record(), Path(directory)) for _ in range(2))
            self.assertEqual((first.name, second.name), ("2026-11-30.json", "2026-11-30-2.json"))
            self.assertEqual(json.loads(first.read_text()), self.record())

    def test_every_record_of_the_repository_can_be_printed(self):
        for path in report.RECORDS.rglob("*.json"):
            kept = json.loads(path.read_text())
            self.assertEqual(path.parent.name, kept["slug"])
            self.assertEqual(kept["ratios"], record.ratios(kept["rows"], kept["shapes"]))
            self.assertIn("trivec", report.full(kept))

    def test_tables_in_documents_are_those_of_the_records(self):
        with tempfile.TemporaryDirectory() as directory:
            report.RECORDS, real = Path(directory), report.RECORDS
            try:
                path = record.write(self.record(), Path(directory)).relative_to(directory)
                document = Path(directory) / "document.md"
                document.write_text(f"Before.\n<!-- record: {path} -->\nold\n<!-- end of record -->\nAfter.\n")
                self.assertNotEqual(report.main(["--check", str(document)]), 0)
                self.assertEqual(report.main(["--into", str(document)]), 0)
                self.assertEqual(report.main(["--check", str(document)]), 0)
                self.assertIn("| trivec 1 | int8 | 10.0 |", document.read_text())
                document.write_text(document.read_text().replace("10.0", "9.0"))
                self.assertNotEqual(report.main(["--check", str(document)]), 0)
                document.write_text("<!-- record: none/2026-11-30.json -->\n<!-- end of record -->\n")
                self.assertIn("there is no record none/2026-11-30.json", report.main(["--check", str(document)]))
                document.write_text(f"<!-- record: {path} -->\nno end\n")
                self.assertIn("1 tables begin, 0 of them also end", report.main(["--check", str(document)]))
            finally:
                report.RECORDS = real

    def test_the_short_table_has_times_and_ratios_of_the_newest_records(self):
        with tempfile.TemporaryDirectory() as directory:
            report.RECORDS, real = Path(directory), report.RECORDS
            try:
                for day, ms, isa in [("2026-11-29", 8, None), ("2026-11-30", 10, None), ("2026-12-01", 6, "avx2")]:
                    rows = [row("trivec", "int8", {"1x8": ms, "1x32": 120}), row("openvino", "int8", {"1x8": 15, "1x32": 150})]
                    kept = {**self.record(), "date": day, "isa": isa, "rows": rows, "ratios": record.ratios(rows, ["1x8", "1x32"])}
                    record.write(kept, Path(directory))
                document = Path(directory) / "document.md"
                document.write_text("<!-- speed: Zen 3 = amd-epyc-zen3-2c -->\n<!-- end of speed -->\n")
                self.assertEqual(report.main(["--into", str(document)]), 0)
                text = document.read_text()
                self.assertIn("| Zen 3, int8 | 10.0 (1.50) | 120 (1.25) |", text)
                self.assertIn("Zen 3: AMD EPYC (amd-epyc-zen3-2c), 2 threads; 2026-11-30, trivec abc.", text)
                document.write_text("<!-- speed: amd-epyc-zen3-2c -->\n<!-- end of speed -->\n")
                self.assertIn("expected `LABEL = PATH", report.main(["--into", str(document)]))
            finally:
                report.RECORDS = real


if __name__ == "__main__":
    unittest.main()
