"""Whether the machine was left to one engine while it was measured.

What all processes together used comes from /proc/stat, what the measured engine used from /proc/PID/stat of its processes; the rest is
other processes' time. But /proc/stat only counts who runs at each tick of the clock: over half a second it was seen to be five ticks off,
a tenth of a core. So the other processes' own clocks, which are exact, are added up too, and /proc/stat only has to agree within that
error: it shows what no process shows. A round in which others took more than a twentieth of one core is not counted.
"""

import os
import time
from pathlib import Path

SHARE = 0.05  # of one core that other processes may take during a round
SAMPLING_TICKS = 6  # how far /proc/stat may be off, by what was seen and one more


class Disturbed(Exception):
    """Every try to measure a round was disturbed."""


class Stat:
    """A line of /proc/PID/stat: the command's name is in brackets and may have spaces and brackets itself."""

    def __init__(self, text):
        before, _, after = text.rpartition(")")
        pid, _, self.name = before.partition("(")
        fields = after.split()
        self.pid, self.parent = int(pid), int(fields[1])
        user, system, children_user, children_system = (int(ticks) for ticks in fields[11:15])
        self.own = user + system
        self.with_children = self.own + children_user + children_system


def cpu_ticks(stat):
    """(busy, stolen) clock ticks of all CPUs from the text of /proc/stat. A guest's time is within the user's time already. Time that a
    virtual machine's host took away is told apart: it is no process of this machine."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in stat.split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq, steal


class Snapshot:
    """The machine at one moment."""

    def __init__(self, seconds, stat, processes):
        self.seconds = seconds
        self.busy, self.stolen = cpu_ticks(stat)
        self.processes = {process.pid: process for process in map(Stat, processes)}

    def family(self, roots):
        """These processes and what they started."""
        found = set(roots)
        while True:
            more = {pid for pid, process in self.processes.items() if process.parent in found} - found
            if not more:
                return found
            found |= more

    def used_by(self, roots):
        """Ticks of these processes, of what they started, and of what that started and has ended since."""
        return sum(self.processes[pid].with_children for pid in self.family(roots) if pid in self.processes)


def take():
    """Now. Processes that end meanwhile are left out."""
    processes = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                processes.append((directory / "stat").read_text(errors="replace"))
            except OSError:
                pass
    return Snapshot(time.monotonic(), Path("/proc/stat").read_text(), processes)


class Verdict:
    """What happened between two snapshots beside `engine`'s processes and the process `measurer`, which has nothing to do but wait: its
    children are other engines, and one that does not rest disturbs as any other process does."""

    def __init__(self, before, after, engine, measurer, ticks_per_second):
        self.rate = ticks_per_second * (after.seconds - before.seconds)
        family = before.family([engine]) | after.family([engine])

        def others(snapshot):
            return sum(p.with_children for pid, p in snapshot.processes.items() if pid not in family and pid != measurer)

        def ours(snapshot):
            alone = snapshot.processes.get(measurer)
            return snapshot.used_by([engine]) + (alone.own if alone and measurer not in family else 0)

        def share(ticks):
            return max(0.0, ticks / self.rate)

        by_processes = share(others(after) - others(before))
        unseen = share(after.busy - before.busy - (ours(after) - ours(before)) - SAMPLING_TICKS)
        self.share = max(by_processes, unseen)
        self.stolen = share(after.stolen - before.stolen)
        self.disturbed = self.share > SHARE
        used = {
            process.name: process.own - (before.processes[pid].own if pid in before.processes else 0)
            for pid, process in after.processes.items()
            if pid not in family and pid != measurer
        }
        most = max(used, key=used.get, default=None)
        self.busiest = f"{most} ({100 * share(used[most]):.0f} %)" if most and used[most] > 0 else "none that is still there"


def judge(action, engine):
    """What `action()` returns, and the verdict on the time it took."""
    before = take()
    result = action()
    return result, Verdict(before, take(), engine, os.getpid(), os.sysconf("SC_CLK_TCK"))


def undisturbed(action, engine, tries, note, refused, pause=time.sleep):
    """The result of the first of `tries` runs of `action` that nobody disturbed, with longer and longer pauses between them. `refused`
    collects the verdicts that were not good enough."""
    for attempt in range(tries):
        result, verdict = judge(action, engine)
        if not verdict.disturbed:
            return result, verdict
        refused.append(verdict)
        note(f"refused: other processes took {100 * verdict.share:.0f} % of a core; busiest: {verdict.busiest}")
        if attempt + 1 < tries:
            pause(min(10, 0.5 * 2**attempt))
    raise Disturbed(
        f"the machine is busy: {tries} rounds in turn were disturbed, the last by {100 * verdict.share:.0f} % of a core;"
        f" the busiest other process: {verdict.busiest}"
    )
