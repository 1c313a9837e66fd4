"""A coordinator, a worker and two servers as real processes on loopback."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.base.errors import LongtailError, LongtailFailure
from tests.trainer.processes import (
    DIVERGING,
    LONG,
    checkpoint_of,
    cluster_of,
    entry_point,
    paused,
    start,
    tails,
    tasks,
    wait,
    wait_until,
)
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.distributed.cluster import Cluster
from trainer.distributed.parameter_servers import serve
from trainer.distributed.strategy import distribute
from trainer.distributed.task_watch import answers
from trainer.loop.build import load_model
from trainer.loop.validation import Validation
from trainer.task import training_fingerprint

Configure = Callable[..., TrainerSections]


@pytest.mark.slow
def test_a_model_of_shards_learns_and_is_loaded_by_one_process(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    # 512 bytes: the tables of ids, 66 x 8 and 50 x 8 floats, fall into two shards each.
    sections = {"train": {"min_shard_bytes": 512, "max_epochs": 3}}
    config = configure(**sections)
    logs, command = tmp_path / "logs", entry_point(config, data_dir, tmp_path)
    with tasks(cluster_of(chief=1, worker=1, ps=2), command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {0}, tails(logs)

    model_dir = tmp_path / "model"
    records = json.loads((model_dir / "history.json").read_text())
    assert [record["step"] for record in records] == [30, 60, 90]
    newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
    saved = [shape for name, shape in tf.train.list_variables(newest) if "optimizer/" in name]
    assert [66, 8] in saved and [50, 8] in saved  # the accumulators of both tables, whole
    model = load_model(config, data_dir, model_dir)
    best = max(record["recall@10/all"] for record in records)
    assert best > 0.6  # guessing the group alone finds 10 of 16
    assert Validation(config, data_dir).figures(model)["recall@10/all"] == pytest.approx(best)


def assert_ended_without_the_coordinator(logs: Path) -> None:
    for name in ("worker0", "ps0", "ps1"):
        said = (logs / f"{name}.txt").read_text()
        assert "error: expected the coordinator (chief 0) of TF_CONFIG at 127.0.0.1:" in said
        assert "Traceback" not in said


@pytest.mark.slow
def test_a_failed_coordinator_ends_the_others(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    command = entry_point(configure(train={**DIVERGING, "grace_seconds": 5}), data_dir, tmp_path)
    with tasks(cluster_of(chief=1, worker=1, ps=2), command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {1}, tails(logs)
    assert "error: the loss is not a number at step" in (logs / "chief0.txt").read_text()
    assert_ended_without_the_coordinator(logs)


GRACE = 30
"""Seconds that the others give the coordinator, and that the test takes at least."""


@pytest.mark.slow
def test_a_killed_coordinator_may_come_back_and_else_ends_the_others(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    logs, model_dir = tmp_path / "logs", tmp_path / "model"
    cluster = cluster_of(chief=1, worker=1, ps=2)
    config = configure(train={**LONG, "grace_seconds": GRACE})
    command = entry_point(config, data_dir, tmp_path)

    def said_at_once() -> str:
        return (
            (logs / "chief0.txt").read_text().partition("going on at step ")[2].partition("\n")[0]
        )

    with tasks(cluster, command, logs) as started:
        checkpoint_of(model_dir, 0, started, logs)
        started["chief", 0].kill()
        started["chief", 0].wait()
        reached = checkpoint_of(model_dir, 0, {}, logs)  # of the one that is gone
        others = {task: each for task, each in started.items() if task[0] != "chief"}
        with paused(others, after=GRACE / 2) as look:
            started["chief", 0] = start(cluster, "chief", 0, command, logs)
            address = cluster["chief"][0]
            wait_until(lambda: look() or answers(address), started, logs)
        checkpoint_of(model_dir, reached, started, logs)
        wait_until(lambda: bool(said_at_once()), started, logs)
        assert int(said_at_once()) >= reached
        started["chief", 0].kill()
        codes = wait(started, logs)
    assert codes.pop(("chief", 0)) == -signal.SIGKILL
    assert set(codes.values()) == {1}, tails(logs)
    assert_ended_without_the_coordinator(logs)


def test_shards_are_no_part_of_what_weights_depend_on(configure: Configure) -> None:
    small = configure(train={"min_shard_bytes": 512})
    assert training_fingerprint(small, "data") == training_fingerprint(configure(), "data")


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"loss": {"probabilities": "streamed"}}, "loss.probabilities 'streamed'"),
        (
            {"negatives": {"memory": {"size": 32, "warm_up_steps": 4}}},
            "negatives.memory",
        ),
        ({"negatives": {"known_positives": "remove"}}, "known_positives 'remove'"),
        ({"train": {"continue_from": "yesterday"}}, "train.continue_from"),
    ],
)
def test_what_needs_an_order_of_steps_is_refused_before_connecting(
    configure: Configure, sections: dict[str, Any], named: str
) -> None:
    jobs = {"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1",)}
    with pytest.raises(LongtailError, match=f"parameter servers.*received .*{named}"):
        distribute(Cluster(jobs, "chief", 0), configure(**sections))
    with pytest.raises(LongtailError, match=f"parameter servers.*received .*{named}"):
        serve(Cluster(jobs, "ps", 0), configure(**sections), lambda: True)


def test_an_address_that_another_program_has_is_told(configure: Configure) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        jobs = {"chief": ("127.0.0.1:1",), "worker": ("127.0.0.1:2",), "ps": (address,)}
        with pytest.raises(LongtailFailure, match=f"expected ps 0 to listen at {address} .*free"):
            serve(Cluster(jobs, "ps", 0), configure(), lambda: True)
