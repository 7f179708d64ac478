#!/usr/bin/env python3
"""What trivec and FlagEmbedding gave, side by side: values within 1e-5, all else equal.

compare.py answers OWN REFERENCE     files of answers.py; those that both have, which must be all of REFERENCE's
compare.py printed OWN REFERENCE NAME     what a script printed
compare.py hits OWN REFERENCE     files of milvus.py
compare.py start OWN-PYTHON REFERENCE-PYTHON MODEL     seconds from nothing to a first vector, medians of five
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

from reference_cases import TOLERANCE, differences

NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")
FIRST = "from {module} import BGEM3FlagModel; model = BGEM3FlagModel({path!r}); assert model.encode('a text')['dense_vecs'].shape == (64,)"
SOONER = 20


def answers(own: str, reference: str) -> None:
    found, expected = (json.loads(pathlib.Path(path).read_text()) for path in (own, reference))
    missing = [name for name in expected if name not in found]
    wrong = [difference for name in expected if name in found for difference in differences(found[name], expected[name], name)]
    for line in missing + wrong[:20]:
        print(f"  {line}")
    print(f"{len(expected)} answers: {len(missing)} missing, {len(wrong)} values differ")
    if missing or wrong or not expected:
        sys.exit(1)


def split(text: str) -> tuple[list[str], list[float]]:
    """What stands between numbers, without the spaces by which columns are aligned, and the numbers."""
    between = ["".join(part.split()) for part in NUMBER.split(text)]
    return between, [float(number) for number in NUMBER.findall(text)]


def printed_alike(own: str, reference: str) -> bool:
    (own_text, own_numbers), (text, numbers) = split(own), split(reference)
    return own_text == text and all(abs(a - b) <= TOLERANCE * max(1.0, abs(b)) for a, b in zip(own_numbers, numbers))


def printed(own: str, reference: str, name: str) -> None:
    found, expected = (pathlib.Path(path).read_text() for path in (own, reference))
    if not (NUMBER.search(expected) and printed_alike(found, expected)):
        sys.exit(f"{name}: trivec prints\n{found}\nFlagEmbedding prints\n{expected}")
    print(f"{name}: prints the same")


def same_hits(own: list, reference: list) -> bool:
    """Whether two lists of [id, score] have the same order; documents whose scores are as good as equal may change places."""
    if len(own) != len(reference) or not all(abs(a - b) <= TOLERANCE for (_, a), (_, b) in zip(own, reference)):
        return False
    scores = dict(reference)
    # The last may have an equal that is no longer in the list.
    last = reference[-1][1] if reference else 0
    return all(abs(scores.get(id, last) - score) <= TOLERANCE for id, score in own)


def hits(own: str, reference: str) -> None:
    found, expected = (json.loads(pathlib.Path(path).read_text()) for path in (own, reference))
    assert list(found) == list(expected) and len(expected) > 20, (list(found), list(expected))
    wrong = [f"{query}, {name}: {found[query][name]} for {hits}" for query, lists in list(expected.items())[1:] for name, hits in lists.items() if not same_hits(found[query][name], hits)]
    if found["dim"] != expected["dim"]:
        wrong.append(f"dim: {found['dim']} for {expected['dim']}")
    orders = sum([id for id, _ in found[query][name]] == [id for id, _ in hits] for query, lists in list(expected.items())[1:] for name, hits in lists.items())
    print(f"Milvus: {len(expected) - 1} queries, three lists each: {len(wrong)} differ; {orders} have the very same order")
    if wrong:
        sys.exit("\n".join(wrong[:5]))


def start(own: str, reference: str, model: str) -> None:
    medians = []
    for python, module in ((own, "trivec.flag"), (reference, "FlagEmbedding")):
        command = [python, "-W", "ignore", "-c", FIRST.format(module=module, path=model)]
        times = []
        for _ in range(6):
            begin = time.perf_counter()
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            times.append(time.perf_counter() - begin)
        # The first reads files that are not in memory yet.
        medians.append(statistics.median(times[1:]))
    ratio = medians[1] / medians[0]
    print(f"from nothing to a first vector: trivec {medians[0]:.3f} s, FlagEmbedding {medians[1]:.3f} s: {ratio:.1f} times as long")
    if ratio < SOONER:
        sys.exit(f"expected {SOONER} times at least")


if __name__ == "__main__":
    {"answers": answers, "printed": printed, "hits": hits, "start": start}[sys.argv[1]](*sys.argv[2:])
