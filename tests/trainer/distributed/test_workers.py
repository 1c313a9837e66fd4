"""Several workers as real processes on loopback: the same result as one, and what happens when one dies."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from preprocessing.base.errors import LongtailError
from tests.trainer.processes import (
    DIVERGING,
    LONG,
    checkpoint_of,
    cluster_of,
    document,
    entry_point,
    tails,
    tasks,
    wait,
    wait_until,
)
from tests.trainer.synthetic import make_config
from tests.trainer.worker_steps import state_at_first, trained
from trainer.config.sections import TrainerSections
from trainer.distributed.cluster import Cluster
from trainer.distributed.strategy import distribute
from trainer.distributed.synchronous import SingleProcess
from trainer.loop.build import build_model, load_model
from trainer.loop.run_state import RunState
from trainer.task import train

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
        "loss": {"kind": "bsl", "bsl_ratio": 3.0},
        "data": {"reward_weights": True},
        "ssl": {"enabled": True, "batch_size": 16, "augmentation": "random_mask"},
        # Its gradients cancel most, so that their last bits count.
        "train": {"initial_accumulator": 1e-2},
    },
    "gramian, from files": {
        "loss": {"kind": "gramian", "temperature": 0.8},  # its scores are near 0 and 1, not logits
        "train": {"shuffle_buffer": 100},
    },
    "binary, uniform only, popularity": {
        "loss": {"kind": "bce"},
        "negatives": {"uniform": 16, "in_batch": False},
        "towers": {"popularity": {}},
    },
}


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
        codes = wait(started, place / "logs")
    assert set(codes.values()) == {0}, tails(place / "logs")
    return configs, [dict(np.load(place / f"{index}.npz")) for index in range(2)]


@pytest.mark.parametrize("name", STEPS)
def test_two_workers_are_one_process_with_the_whole_batch(
    data_dir: Path,
    two_workers: tuple[dict[str, TrainerSections], list[dict[str, np.ndarray]]],
    name: str,
) -> None:
    configs, found = two_workers
    before = state_at_first(configs[name], data_dir)
    expected = trained(SingleProcess(), configs[name], data_dir)
    assert [key for key in expected if key.startswith("negatives")] or "streamed" not in name
    for of_worker in found:
        of_config = {
            key.partition(":")[2]: value
            for key, value in of_worker.items()
            if key.partition(":")[0] == name
        }
        assert set(of_config) == set(expected)
        for key, value in expected.items():
            # Workers sum a gradient in another order than one process. What that leaves in the last
            # bits grows with what is summed, and so with how far the steps moved a variable.
            moved = np.abs(value - before[key]).max() if key in before else 0.0
            bound = max(1e-5, 1e-4 * moved)
            np.testing.assert_allclose(of_config[key], value, rtol=1e-5, atol=bound, err_msg=key)
    # Sparse gradients alone are of unknown size, and the rows that the stream counts of any.
    gathers = 2 if "streamed" in name else 1
    assert [int(each[f"gathers of {name}"]) for each in two_workers[1]] == [gathers] * 2
    # Between the workers not even a bit may differ: they never compare notes.
    for key, value in found[0].items():
        np.testing.assert_array_equal(found[1][key], value, err_msg=key)


GONE = "error: another worker of the 2 in TF_CONFIG is gone"


def test_a_dead_worker_ends_the_other_and_a_new_pair_goes_on(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    command = entry_point(configure(train=LONG), data_dir, tmp_path)
    model_dir, reached = tmp_path / "model", 0
    for victim, survivor in ((1, 0), (0, 1)):  # the first is the chief
        logs = tmp_path / f"logs{victim}"
        with tasks(cluster_of(worker=2), command, logs) as started:
            saved = checkpoint_of(model_dir, reached, started, logs)
            started["worker", victim].kill()
            codes = wait(started, logs)
        assert codes["worker", survivor] == 1, tails(logs)
        said = (logs / f"worker{survivor}.txt").read_text()
        assert GONE in said
        assert "Traceback" not in said
        if reached:
            resumed = int(said.partition("going on at step ")[2].split()[0])
            assert resumed >= reached
        reached = saved
        assert not (model_dir / "manifest.json").exists()


def test_a_loss_that_is_no_number_ends_all_workers(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    command, logs = entry_point(configure(train=DIVERGING), data_dir, tmp_path), tmp_path / "logs"
    with tasks(cluster_of(chief=1, worker=1), command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {1}, tails(logs)
    said = [(logs / name).read_text() for name in ("chief0.txt", "worker0.txt")]
    nan = "error: the loss is not a number at step"
    # All hear the same losses; one may be gone while the other still reads them.
    assert any(nan in text for text in said)
    assert all((nan in text or GONE in text) and "Traceback" not in text for text in said)


def test_a_worker_that_fails_before_the_first_step_ends_the_other(
    data_dir: Path, data_copy: Path, configure: Configure, tmp_path: Path
) -> None:
    shutil.rmtree(data_copy / "examples" / "train")
    logs = tmp_path / "logs"
    whole, damaged = (
        entry_point(configure(train=LONG), each, tmp_path) for each in (data_dir, data_copy)
    )
    with tasks(
        cluster_of(worker=2), lambda job, index: (whole, damaged)[index](job, index), logs
    ) as started:
        codes = wait(started, logs)
    assert list(codes.values()) == [1, 2], tails(logs)
    said, cause = ((logs / f"worker{index}.txt").read_text() for index in range(2))
    assert "error: there are no examples in" in cause
    assert GONE in said and "Traceback" not in said


def test_a_chief_that_is_killed_before_the_first_step_ends_the_other(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    command, logs = entry_point(configure(train=LONG), data_dir, tmp_path), tmp_path / "logs"
    with tasks(cluster_of(worker=2), command, logs) as started:
        # It writes this once all are connected, and then builds the model.
        wait_until((tmp_path / "model" / "run").exists, started, logs)
        started["worker", 0].kill()
        codes = wait(started, logs)
    assert list(codes.values()) == [-signal.SIGKILL, 1], tails(logs)
    said = (logs / "worker1.txt").read_text()
    assert GONE in said and "Traceback" not in said


def test_the_entry_point_finishes_alike_on_two_workers_and_on_one(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(train={"max_epochs": 2, "initial_accumulator": 1e-3})
    command, logs = entry_point(config, data_dir, tmp_path), tmp_path / "logs"
    # As Vertex AI names them; an evaluator has nothing to do.
    cluster = cluster_of(chief=1, worker=1, evaluator=1)
    with tasks(cluster, command, logs) as started:
        codes = wait(started, logs)
    assert set(codes.values()) == {0}, tails(logs)
    assert "nothing to do" in (logs / "evaluator0.txt").read_text()
    alone = train(config, data_dir, tmp_path / "alone", console=Console(quiet=True))
    together = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert together["fingerprint"] == alone["fingerprint"]
    assert together["steps"] == alone["steps"]
    ours, theirs = (
        json.loads((tmp_path / name / "history.json").read_text()) for name in ("model", "alone")
    )
    assert [record["step"] for record in ours] == [30, 60]
    assert [record["loss"] for record in ours] == pytest.approx(
        [record["loss"] for record in theirs], rel=1e-3
    )
    # A model that two workers trained is loaded, and its run gone on with, by one process.
    model = load_model(config, data_dir, tmp_path / "model")
    np.testing.assert_allclose(
        model.trainable_variables[0],
        load_model(config, data_dir, tmp_path / "alone").trainable_variables[0],
        atol=1e-3,
    )
    state = RunState(build_model(config, data_dir), tmp_path / "model", keep=2)
    assert state.restore() and state.step == 60


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"batch_size": 33}}, "train.batch_size: expected a multiple of the 2 workers"),
        ({"negatives": {"uniform": 7}}, "negatives.uniform: .* received 7; set it to 8"),
        ({"ssl": {"enabled": True, "batch_size": 1}}, "ssl.batch_size: .* set it to 2"),
    ],
)
def test_what_does_not_divide_is_refused_before_connecting(
    configure: Configure, sections: dict[str, Any], message: str
) -> None:
    cluster = Cluster({"worker": ("127.0.0.1:1", "127.0.0.1:2")}, "worker", 0)
    with pytest.raises(LongtailError, match=message):
        distribute(cluster, configure(**sections))
