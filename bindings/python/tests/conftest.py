"""Models for the tests: the repository's tiny checkpoints."""

import os
import pathlib
import signal

import pytest

import trivec

# A shell starts background jobs with SIGINT ignored, and processes that the tests start would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("TRIVEC_TEST_DATA") or HERE.parents[2] / "tests" / "data")
EMBEDDER = str(DATA / "models" / "f32-h64")
RERANKER = str(DATA / "rerankers" / "reranker-h48")


def pytest_configure(config):
    config.addinivalue_line("markers", "database: needs a vector database's packages, which are large")


@pytest.fixture(autouse=True)
def no_models_of_this_user(monkeypatch, tmp_path):
    """Hides the models that the user who runs the tests has installed or cached."""
    monkeypatch.setenv("TRIVEC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.fixture(scope="session")
def model():
    return trivec.Model(EMBEDDER, threads=2)


@pytest.fixture(scope="session")
def reranker():
    return trivec.Reranker(RERANKER, threads=2)
