"""Every program as a process: what is wrong takes one line, and no library talks in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = [
    ["pipelines.cli", "run"],
    ["pipelines.cli", "pipeline", "run"],
    ["preprocessing.run"],
    ["trainer.task"],
    ["trainer.evaluate"],
    ["serving.export"],
]


def run(root: Path, *program: str) -> subprocess.CompletedProcess[str]:
    """The module with its arguments, in an environment that lets libraries talk."""
    chatty = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", *program],
        cwd=root,
        env=chatty,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_configuration_that_is_not_there_is_one_line(
    root: Path, tmp_path: Path, program: list[str]
) -> None:
    done = run(root, *program, str(tmp_path / "shop.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: cannot read the configuration {tmp_path}/shop.yaml: No such file or directory\n"
    )


@pytest.mark.slow
def test_a_benchmark_talks_of_itself_alone(root: Path) -> None:
    done = run(root, "benchmarks.serving_bodies", "--help")  # imports TensorFlow and TF-Transform
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: serving_bodies.py")


@pytest.mark.slow
def test_only_preprocessing_imports_beam(root: Path) -> None:
    """Seconds and 200 MB for every training, export and server."""
    modules = "serving.server.run, serving.export.run, trainer.task, trainer.evaluate"
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith('apache_beam')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
