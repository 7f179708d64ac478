"""Tests that `trivec.flag` gives what FlagEmbedding gives: equal types and order of keys, values within 1e-5. See reference_cases.py."""

import gzip
import json

import pytest
from conftest import DATA, HERE
from reference_cases import answers, differences

from trivec import flag


@pytest.fixture(scope="module")
def both():
    expected = json.loads(gzip.decompress((HERE / "reference.json.gz").read_bytes()))
    return answers(flag, lambda model: str(DATA / model)), expected


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
