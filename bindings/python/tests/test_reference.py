"""`trivec.flag` gives what FlagEmbedding gives: values within 1e-5, types and the order of keys equal. See reference_cases.py."""

import gzip
import json
import math

import pytest
from conftest import DATA, HERE
from reference_cases import answers

from trivec import flag

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def both():
    expected = json.loads(gzip.decompress((HERE / "reference.json.gz").read_bytes()))
    return answers(flag, lambda model: str(DATA / model)), expected


def close(found, expected):
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected)) or (math.isnan(found) and math.isnan(expected))
    return found == expected


def differences(found, expected, where):
    """Where two described values differ, in words."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if found.keys() != expected.keys():
            return [f"{where}: {list(found)} for {list(expected)}"]
        return [d for key in found for d in differences(found[key], expected[key], f"{where}.{key}")]
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return [f"{where}: {len(found)} for {len(expected)}"]
        return [d for at, pair in enumerate(zip(found, expected)) for d in differences(*pair, f"{where}[{at}]")]
    return [] if close(found, expected) else [f"{where}: {found!r} for {expected!r}"]


def test_the_same_as_the_reference(both):
    found, expected = both
    assert list(found) == list(expected)
    wrong = [d for name in expected for d in differences(found[name], expected[name], name)]
    assert not wrong, "\n".join(wrong[:20])
    assert len(expected) > 40


def test_the_judge_sees_a_difference(both):
    found, _ = both
    other = json.loads(json.dumps(found))
    values = other["default"]["items"][0][1]["values"]
    values[3] += 1e-4
    assert len(differences(found["default"], other["default"], "x")) == 1
    other["default"]["items"][0], other["default"]["items"][1] = other["default"]["items"][1], other["default"]["items"][0]
    assert len(differences(found["default"], other["default"], "x")) > 1
    assert differences({"type": "float", "value": 1.0}, {"type": "float32", "value": 1.0}, "x")
