"""Runs a pipeline, kills it with SIGKILL in one component after the other, and lets it end.

    python -m tests.e2e.kill_each CONFIG KEY=VALUE ...

TFX is imported once; every attempt is a process of its own that goes on where the killed one stood.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from pipelines import config as configuration
from pipelines.config import Paths
from pipelines.tfx import local

NODES = (  # in the order in which TFX runs them
    "LatestBlessedModel",
    "Preprocessing",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "DataGate",
    "Trainer",
    "InfraValidation",
    "RecallEvaluation",
    "RecallGate",
    "FinalFit",
    "Pusher",
)
_AT_WORK = {
    "Preprocessing": "/examples/train/",
    "Trainer": "/checkpoints/",
    "FinalFit": "/final/model/",
}
"""In the path of a file whose appearance tells that a component is in the middle; default: any file."""
_WRITES_NOTHING = "LatestBlessedModel"


def main(path: str, *overrides: str) -> None:
    """See the module."""
    config, paths = configuration.load(path, overrides)
    console = Console(width=200)
    for node in (*NODES, None):
        paths.tfx.mkdir(parents=True, exist_ok=True)
        log = paths.tfx / local.LOG
        seen = log.stat().st_size if log.exists() else 0
        attempt = os.fork()
        if not attempt:
            local.run(config, paths, console)
            sys.stdout.flush()
            os._exit(0)
        if node:
            _await(node, paths, seen, attempt)
            os.kill(attempt, signal.SIGKILL)
        _, status = os.waitpid(attempt, 0)
        wanted = signal.SIGKILL if node else 0
        if status != wanted:
            sys.exit(f"{node or 'the last attempt'}: ended with status {status}")
        print(f"killed in {node}" if node else "ended", flush=True)


def _await(node: str, paths: Paths, seen: int, attempt: int) -> None:
    """Until the component is in the middle of its work."""
    log, before = paths.tfx / local.LOG, _written(node, paths)
    while not (
        _runs(node, log, seen) and (_written(node, paths) != before or node == _WRITES_NOTHING)
    ):
        if os.waitid(os.P_PID, attempt, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            sys.exit(f"{node}: the run ended before it could be killed")
        time.sleep(0.002)


def _runs(node: str, log: Path, seen: int) -> bool:
    if not log.exists():
        return False
    with log.open() as text:
        text.seek(seen)
        return f"Component {node} is running" in text.read()


def _written(node: str, paths: Paths) -> set[str]:
    places = [paths.tfx / node, *([paths.export] if node == "Pusher" else [])]
    return {
        f"{directory}/{name}"
        for top in places
        for directory, _, names in os.walk(top)  # which bears with what is removed meanwhile
        for name in names
        if _AT_WORK.get(node, "") in f"{directory}/{name}"
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
