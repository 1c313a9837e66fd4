"""The tasks of a cluster as real processes on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.config import TrainerSections


def free_ports(number: int) -> list[int]:
    with ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def cluster_of(**jobs: int) -> dict[str, list[str]]:
    ports = iter(free_ports(sum(jobs.values())))
    return {
        job: [f"127.0.0.1:{next(ports)}" for _ in range(number)] for job, number in jobs.items()
    }


@contextmanager
def tasks(
    cluster: dict[str, list[str]], command: Callable[[str, int], list[str]], logs: Path
) -> Iterator[dict[tuple[str, int], subprocess.Popen[bytes]]]:
    """One process a task, each with a thread; none outlives the block."""
    started: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    logs.mkdir(parents=True, exist_ok=True)
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        for job, addresses in cluster.items():
            for index in range(len(addresses)):
                task = {"cluster": cluster, "task": {"type": job, "index": index}}
                with open(logs / f"{job}{index}.txt", "wb") as said:
                    started[job, index] = subprocess.Popen(
                        [sys.executable, "-m", *command(job, index)],
                        env={**os.environ, **threads, "TF_CONFIG": json.dumps(task)},
                        stdout=said,
                        stderr=subprocess.STDOUT,
                    )
        yield started
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
            process.wait()


def wait(processes: Any, logs: Path, seconds: float = 400) -> dict[tuple[str, int], int]:
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes.values()):
        if time.monotonic() > deadline:
            left = [task for task, process in processes.items() if process.poll() is None]
            pytest.fail(f"after {seconds} s still running: {left} {tails(logs)}")
        time.sleep(0.05)
    return {task: process.returncode for task, process in processes.items()}


def tails(logs: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in logs.iterdir())


def document(config: TrainerSections) -> dict[str, Any]:
    plain: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return plain


def entry_point(config: TrainerSections, data_dir: Path, place: Path) -> Any:
    """The command of every task."""
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump(document(config)))
    places = ["--data-dir", str(data_dir), "--model-dir", str(place / "model")]
    return lambda *_: ["trainer.task", str(path), *places]
