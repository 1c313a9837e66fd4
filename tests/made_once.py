"""What takes long to make is made once for all processes of a test run, by the first that asks."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

PLACE = "LONGTAIL_TESTS_MADE"
"""Environment variable: the folder of this run, which tests/conftest.py makes and removes."""


def begin() -> Callable[[], None]:
    """Makes the folder of this run, unless a process above has; returns what removes it."""
    if PLACE in os.environ:
        return lambda: None
    folder = os.environ[PLACE] = tempfile.mkdtemp(prefix="longtail-tests-")
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which `make` fills unless it is there; the others wait for it.

    Nobody may change what lies in it: copy it first.
    """
    folder = Path(os.environ[PLACE]) / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
