"""Tests of the judge of disturbed rounds: python3 -m unittest discover -s tools/peers

No test depends on time: the snapshots of /proc in fixtures/proc.json were taken once, on a machine with two cores and much other work, while
an engine of two processes computed for half a second beside a busy loop. Processes that did nothing are left out.
"""

import json
import unittest
from pathlib import Path

import quietness

FIXTURES = Path(__file__).parent / "fixtures"


def snapshots(name):
    """Two recorded snapshots, and the verdict between them."""
    recorded = json.loads((FIXTURES / "proc.json").read_text())
    taken = [quietness.Snapshot(s["seconds"], s["stat"], s["processes"].values()) for s in recorded[name]]
    return recorded, *taken


def verdict(name, engine=None):
    recorded, before, after = snapshots(name)
    return quietness.Verdict(before, after, engine or recorded["engine"], recorded["measurer"], recorded["ticks_per_second"])


class Quietness(unittest.TestCase):
    def test_a_round_beside_a_busy_loop_is_refused(self):
        found = verdict("busy")
        self.assertTrue(found.disturbed)
        self.assertGreater(found.share, 0.3)

    def test_the_loop_alone_is_enough(self):
        # As if all other processes were the engine's, but for the loop, whose parent is then the process that measures.
        recorded, *taken = snapshots("busy")
        for snapshot in taken:
            for pid, process in snapshot.processes.items():
                process.parent = 0 if pid in (1, recorded["measurer"]) else recorded["measurer"] if pid == recorded["loop"] else 1
        found = quietness.Verdict(*taken, 1, recorded["measurer"], recorded["ticks_per_second"])
        self.assertTrue(found.disturbed)
        self.assertIn("python3", found.busiest)

    def test_a_round_is_counted_when_all_that_runs_is_the_engine(self):
        # The same half second, with the first process of the machine as the engine: every other is its child, but for the kernel's.
        found = verdict("busy", engine=1)
        self.assertFalse(found.disturbed, found.share)

    def test_an_engine_owns_what_its_children_used(self):
        # The engine's child did half of the work and has ended.
        recorded, before, after = snapshots("busy")
        engine = recorded["engine"]
        alone = after.processes[engine].own - before.processes[engine].own
        self.assertGreater(after.used_by([engine]) - before.used_by([engine]), 1.5 * alone)

    def test_another_engine_that_does_not_rest_disturbs(self):
        # The process that measures has two engines as children, and the other one works too.
        line = "{} (engine) S 5 7 7 0 -1 0 0 0 0 0 {} 0 0 0 20 0 1 0 0 0 0".format
        before = quietness.Snapshot(0, "cpu 0 0 0 0 0 0 0 0 0 0\n", [line(7, 0), line(8, 0)])
        after = quietness.Snapshot(1, "cpu 200 0 0 0 0 0 0 0 0 0\n", [line(7, 100), line(8, 100)])
        found = quietness.Verdict(before, after, 7, 5, 100)
        self.assertEqual((found.share, found.busiest), (1.0, "engine (100 %)"))

    def test_what_no_process_shows_disturbs_too(self):
        # Half a core went somewhere; a few ticks are the error of /proc/stat.
        for busy, disturbed in ((150, True), (105, False)):
            before = quietness.Snapshot(0, "cpu 0 0 0 0 0 0 0 0 0 0\n", ["7 (e) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20"])
            after = quietness.Snapshot(1, f"cpu {busy} 0 0 0 0 0 0 0 0 0\n", ["7 (e) S 1 7 7 0 -1 0 0 0 0 0 100 0 0 0 20"])
            self.assertEqual(quietness.Verdict(before, after, 7, 8, 100).disturbed, disturbed)

    def test_the_share_is_of_one_core(self):
        # Ten seconds, two engines' worth of 10 s on two cores, and 0.6 s of another process: 6 % of a core, though 3 % of the machine.
        stat = "cpu  {} 0 0 {} 0 0 0 0 0 0\n"
        process = "7 (engine) S 1 7 7 0 -1 0 0 0 0 0 {} 0 0 0 20 0 1 0 0 0 0".format
        other = "8 (a (b) c) R 1 8 8 0 -1 0 0 0 0 0 {} 0 0 0 20 0 1 0 0 0 0".format
        def taken(others):
            before = quietness.Snapshot(0, stat.format(100, 5000), [process(50), other(10)])
            after = quietness.Snapshot(10, stat.format(100 + 1900 + others, 5000), [process(1950), other(10 + others)])
            return quietness.Verdict(before, after, 7, 999, 100)
        self.assertAlmostEqual(taken(60).share, 0.06)
        self.assertTrue(taken(60).disturbed)
        self.assertEqual(taken(60).busiest, "a (b) c (6 %)")
        self.assertFalse(taken(40).disturbed)

    def test_stolen_time_is_told_apart(self):
        before = quietness.Snapshot(0, "cpu 0 0 0 0 0 0 0 0 0 0\n", [])
        after = quietness.Snapshot(1, "cpu 0 0 0 0 0 0 0 50 0 0\n", [])
        found = quietness.Verdict(before, after, 7, 8, 100)
        self.assertEqual((found.share, found.stolen, found.disturbed), (0, 0.5, False))

    def test_a_busy_machine_ends_the_run_after_some_tries(self):
        verdicts, judge = [verdict("busy") for _ in range(3)], quietness.judge
        pauses, refused, quietness.judge = [], [], lambda action, engine: (action(), verdicts.pop())
        try:
            with self.assertRaisesRegex(quietness.Disturbed, "3 rounds.* busiest other process: .*%"):
                quietness.undisturbed(lambda: 1, 7, 3, lambda words: None, refused, pauses.append)
        finally:
            quietness.judge = judge
        self.assertEqual((len(refused), len(pauses)), (3, 2))

    def test_a_disturbed_round_is_measured_again(self):
        verdicts, judge = [verdict("busy", engine=1), verdict("busy")], quietness.judge
        results, refused, quietness.judge = iter(["first", "second"]), [], lambda action, engine: (action(), verdicts.pop())
        try:
            result, _ = quietness.undisturbed(lambda: next(results), 7, 3, lambda words: None, refused, lambda seconds: None)
        finally:
            quietness.judge = judge
        self.assertEqual((result, len(refused)), ("second", 1))


if __name__ == "__main__":
    unittest.main()
