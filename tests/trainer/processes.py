"""The tasks of a cluster as real processes on loopback."""

from __future__ import annotations

import json
import os
import signal
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

from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections


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


LONG: dict[str, Any] = {
    "max_epochs": 400,
    "patience": 400,
    "steps_per_execution": 1,
    "checkpoint_every": 20,
    "evaluations_per_epoch": 1,
}
"""`train` of a run that a test ends."""
DIVERGING: dict[str, Any] = {**LONG, "learning_rate": 1e30}
"""`train` of one whose loss is soon no number."""

Command = Callable[[str, int], list[str]]
Processes = dict[tuple[str, int], "subprocess.Popen[bytes]"]


def start(
    cluster: dict[str, list[str]], job: str, index: int, command: Command, logs: Path
) -> subprocess.Popen[bytes]:
    """One task, with one thread; what it says comes after what an earlier one of its name said."""
    task = {"cluster": cluster, "task": {"type": job, "index": index}}
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with open(logs / f"{job}{index}.txt", "ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *command(job, index)],
            env={**os.environ, **threads, "TF_CONFIG": json.dumps(task)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def tasks(cluster: dict[str, list[str]], command: Command, logs: Path) -> Iterator[Processes]:
    """One process a task; none of those that are noted outlives the block."""
    started: Processes = {}
    logs.mkdir(parents=True, exist_ok=True)
    try:
        for job, addresses in cluster.items():
            for index in range(len(addresses)):
                started[job, index] = start(cluster, job, index, command, logs)
        yield started
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
            process.wait()


PATIENCE = 900
"""Seconds after which something counts as stuck: many times what it takes on a busy machine."""


def wait(processes: Processes, logs: Path) -> dict[tuple[str, int], int]:
    """Until all have ended; their exit codes."""
    deadline = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes.values()):
        if time.monotonic() > deadline:
            left = [task for task, process in processes.items() if process.poll() is None]
            pytest.fail(f"after {PATIENCE} s still running: {left} {tails(logs)}")
        time.sleep(0.05)
    return {task: process.returncode for task, process in processes.items()}


def wait_until(is_so: Callable[[], bool], processes: Processes, logs: Path) -> None:
    """Until something is so that the processes bring about, all of which go on."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert all(process.poll() is None for process in processes.values()), tails(logs)
        assert time.monotonic() < deadline, tails(logs)
        time.sleep(0.05)


def checkpoint_of(model_dir: Path, after: int, processes: Processes, logs: Path) -> int:
    """Waits for a checkpoint of more than `after` steps, and returns its step.

    One that a new process would find: its files are there for a moment before it is noted.
    """

    def newest() -> int:
        found = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
        return int(found.rpartition("-")[2]) if found else 0

    wait_until(lambda: newest() > after, processes, logs)
    return newest()


@contextmanager
def paused(processes: Processes, after: float) -> Iterator[Callable[[], None]]:
    """For a process that must come back within a time: the others' time stands still when it is late.

    Yields what has to be called again and again while one waits: `after` seconds from the start it
    stops the processes, which go on at the end of the block.
    """
    late, stopped = time.monotonic() + after, False

    def look() -> None:
        nonlocal stopped
        if not stopped and time.monotonic() > late:
            stopped = True
            for process in processes.values():
                process.send_signal(signal.SIGSTOP)

    try:
        yield look
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGCONT)


def tails(logs: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in logs.iterdir())


def document(config: TrainerSections) -> dict[str, Any]:
    plain: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return plain


def entry_point(config: TrainerSections, data_dir: Path, place: Path) -> Command:
    """The command of every task."""
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump(document(config)))
    places = ["--data-dir", str(data_dir), "--model-dir", str(place / "model")]
    return lambda *_: ["trainer.task", str(path), *places]
