"""Several workers as real processes on loopback: the same result as one, and what happens when one dies."""

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

import numpy as np
import pytest

from tests.trainer.synthetic import make_config
from tests.trainer.worker_steps import trained
from trainer.config import TrainerSections
from trainer.distribution import Alone

pytestmark = pytest.mark.slow

Configure = Callable[..., TrainerSections]
# What a step may hold; dropout is left out, whose draws are each replica's own.
STEPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "corrected, self-supervised": {
        "loss": {"log_q": "corrected"},
        "data": {"reward_weights": True},
        "ssl": {"enabled": True, "batch_size": 16},
    },
    "streamed, uniform, memory, momentum": {
        "loss": {"probabilities": "streamed"},
        "negatives": {
            "uniform": 8,
            "memory": {"size": 48, "drawn": 24, "warm_up_steps": 2, "momentum": 0.5},
        },
    },
    "hardest, known, refused": {
        "data": {"refused": {"column": "liked", "at_most": 0}},
        "negatives": {"hardest": 5, "known_positives": "remove", "explicit": True},
    },
    "bilateral, random masks": {
        "loss": {"kind": "bsl", "bsl_ratio": 0.5},
        "data": {"reward_weights": True},
        "ssl": {"enabled": True, "batch_size": 16, "augmentation": "random_mask"},
    },
    "gramian, from files": {"loss": {"kind": "gramian"}, "train": {"shuffle_buffer": 100}},
    "binary, uniform only, popularity": {
        "loss": {"kind": "bce"},
        "negatives": {"uniform": 16, "in_batch": False},
        "towers": {"popularity": {}},
    },
}


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


def wait(processes: Any, logs: Path, seconds: float = 240) -> dict[tuple[str, int], int]:
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes.values()):
        if time.monotonic() > deadline:
            pytest.fail(f"still running after {seconds} s: {tails(logs)}")
        time.sleep(0.05)
    return {task: process.returncode for task, process in processes.items()}


def tails(logs: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in logs.iterdir())


def document(config: TrainerSections) -> dict[str, Any]:
    plain: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return plain


@pytest.fixture(scope="module")
def two_workers(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, TrainerSections], list[dict[str, np.ndarray]]]:
    """The configurations, and what each of two workers came to with them."""
    place = tmp_path_factory.mktemp("steps")
    configs = {}
    for name, sections in STEPS.items():
        # With the customary 1e-6 the first steps of Adagrad enlarge the last bits of a gradient.
        train = {"steps_per_execution": 1, "initial_accumulator": 1e-3, **sections.get("train", {})}
        configs[name] = make_config(place, **{**sections, "train": train})
    listed = place / "configs.json"
    listed.write_text(json.dumps({name: document(each) for name, each in configs.items()}))

    def command(_: str, index: int) -> list[str]:
        output = str(place / f"{index}.npz")
        return ["tests.trainer.worker_steps", str(listed), str(data_dir), output]

    with tasks(cluster_of(worker=2), command, place / "logs") as started:
        codes = wait(started, place / "logs", 500)
    assert set(codes.values()) == {0}, tails(place / "logs")
    return configs, [dict(np.load(place / f"{index}.npz")) for index in range(2)]


@pytest.mark.parametrize("name", STEPS)
def test_two_workers_are_one_process_with_the_whole_batch(
    data_dir: Path,
    two_workers: tuple[dict[str, TrainerSections], list[dict[str, np.ndarray]]],
    name: str,
) -> None:
    configs, found = two_workers
    expected = trained(Alone(), configs[name], data_dir)
    assert [key for key in expected if key.startswith("negatives")] or "streamed" not in name
    for of_worker in found:
        of_config = {
            key.partition(":")[2]: value
            for key, value in of_worker.items()
            if key.partition(":")[0] == name
        }
        assert set(of_config) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(of_config[key], value, rtol=1e-5, atol=1e-5, err_msg=key)
    # Between the workers not even a bit may differ: they never compare notes.
    for key, value in found[0].items():
        np.testing.assert_array_equal(found[1][key], value, err_msg=key)
