"""What all tests share: a small machine's threads, no window, reproducible Hypothesis, e2e markers."""

from __future__ import annotations

import os
from pathlib import Path

import absl.logging  # noqa: F401  its handler keeps the stderr of now, and not that of one test
import hypothesis
import pytest

from tests import made_once

ROOT = Path(__file__).resolve().parent.parent

# Before TensorFlow, OpenBLAS or Matplotlib is imported. Values set by the user win.
for name, value in {
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "2",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",  # implicit warns (here: fails) where BLAS has threads of its own
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # as preprocessing.base.quiet sets it for users
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)

# Tracing a graph takes longer than any deadline; a failure on CI must be the same one at home.
hypothesis.settings.register_profile("longtail", deadline=None, derandomize=True)
hypothesis.settings.load_profile("longtail")


def pytest_configure(config: pytest.Config) -> None:
    """Before the processes of pytest-xdist begin, which share the folder."""
    config.add_cleanup(made_once.begin())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test below tests/e2e as e2e and slow; files with slow tests come first.

    A long file that begins last would leave the other processes with nothing to do.
    """
    for item in items:
        if (ROOT / "tests" / "e2e") in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: else in the order of collection


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT
