"""Whole training runs: repeatable, resumable after SIGKILL, skipped when current."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.sole_writer import sole_writer
from tests.trainer.synthetic import make_config
from trainer import task
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.loop.build import build_model, load_model
from trainer.loop.run_state import RunState
from trainer.loop.validation import Validation
from trainer.task import train

Configure = Callable[..., TrainerSections]
QUIET = Console(quiet=True)
# Everything that draws at random in a step.
RANDOM: dict[str, dict[str, Any]] = {
    "towers": {"dropout": 0.2, "unknown_rate": 0.2},
    "ssl": {"enabled": True, "batch_size": 16},
}


def run(config: TrainerSections, data_dir: Path, model_dir: Path) -> dict[str, Any]:
    return train(config, data_dir, model_dir, console=QUIET)


def history(model_dir: Path) -> list[dict[str, Any]]:
    records = json.loads((model_dir / "history.json").read_text())
    for record in records:
        del record["evaluation_seconds"]
    return records


def weights(config: TrainerSections, data_dir: Path, model_dir: Path) -> list[np.ndarray]:
    return [v.numpy() for v in load_model(config, data_dir, model_dir).trainable_variables]


def assert_same_run(config: TrainerSections, data_dir: Path, one: Path, two: Path) -> None:
    """Every recorded figure and every weight, to the last bit."""
    assert history(one) == history(two)
    for ours, theirs in zip(
        weights(config, data_dir, one), weights(config, data_dir, two), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_learns_and_leaves_a_whole_directory(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    config, model_dir = configure(train={"evaluations_per_epoch": 2}), tmp_path / "model"
    summary = run(config, data_dir, model_dir)
    records = history(model_dir)
    assert [record["step"] for record in records] == [15, 30, 45, 60]
    assert summary["steps"] == 60
    assert summary["best"] == max(record["recall@10/all"] for record in records)
    # 16 items of a group share a category: guessing the group alone finds 10 of 16.
    assert summary["best"] > 0.6
    assert "recall@10/all/head" in records[0]
    written = {path.name for path in model_dir.iterdir()}
    assert {"best", "checkpoints", "logs", "history.json", "manifest.json"} <= written
    assert len(list((model_dir / "checkpoints").glob("*.index"))) == 2
    assert list((model_dir / "logs").glob("events*"))
    assert not list(tmp_path.glob("**/.*.tmp"))


def test_the_best_weights_are_those_of_the_best_evaluation(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    # So high a rate that recall goes up and down.
    config = configure(train={"learning_rate": 1.0, "max_epochs": 6, "patience": 9})
    summary = run(config, data_dir, tmp_path)
    figures = [record["recall@10/all"] for record in history(tmp_path)]
    assert summary["best_step"] == 30 * (figures.index(max(figures)) + 1)
    model = load_model(config, data_dir, tmp_path)
    again = Validation(config, data_dir).figures(model)
    assert again["recall@10/all"] == pytest.approx(max(figures), abs=1e-6)


def test_steps_per_execution_changes_nothing(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    for steps in (1, 7):
        config = configure(train={"steps_per_execution": steps, "max_epochs": 1}, **RANDOM)
        run(config, data_dir, tmp_path / str(steps))
    assert history(tmp_path / "1") == history(tmp_path / "7")


def test_two_trainings_do_not_write_to_one_directory(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    with (
        sole_writer(tmp_path / "model"),
        pytest.raises(LongtailError, match=r"alone in writing .*model, received .*wait for that"),
    ):
        run(configure(), data_dir, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_patience_stops_a_run(data_dir: Path, configure: Configure, tmp_path: Path) -> None:
    # A rate of nearly nothing: the first evaluation stays the best.
    config = configure(train={"learning_rate": 1e-12, "max_epochs": 9, "patience": 2})
    summary = run(config, data_dir, tmp_path)
    assert summary["stopped_early"]
    assert (summary["steps"], summary["best_step"]) == (90, 30)


def test_a_finished_run_is_skipped_and_another_configuration_is_not(
    data_dir: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(train={"max_epochs": 1})
    summary = run(config, data_dir, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(task, "TrainingData", lambda *_: pytest.fail("trained again"))
        assert run(config, data_dir, tmp_path) == summary
        batched = configure(train={"max_epochs": 1}, evaluate={"batch_users": 3})
        assert run(batched, data_dir, tmp_path) == summary  # nothing that weights depend on
    other = configure(train={"max_epochs": 1, "learning_rate": 0.3})
    assert run(other, data_dir, tmp_path)["fingerprint"] != summary["fingerprint"]
    assert len(history(tmp_path)) == 1


def interrupted(after: int) -> Any:
    class Interrupt(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations) >= after:
                raise KeyboardInterrupt

    return Interrupt()


@pytest.fixture(scope="module")
def uninterrupted(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainerSections, Path]:
    """A run with everything random, and its configuration."""
    place = tmp_path_factory.mktemp("whole")
    config = make_config(place, **RANDOM)
    run(config, data_dir, place / "model")
    return config, place / "model"


def test_a_run_is_repeatable(
    data_dir: Path, uninterrupted: tuple[TrainerSections, Path], tmp_path: Path
) -> None:
    config, whole = uninterrupted
    run(config, data_dir, tmp_path)
    assert_same_run(config, data_dir, tmp_path, whole)


@pytest.mark.parametrize("after", [5, 30, 41])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    data_dir: Path, uninterrupted: tuple[TrainerSections, Path], tmp_path: Path, after: int
) -> None:
    # Checkpoints at 8, 16, ... and at each evaluation (30, 60); executions of 4 steps.
    config, whole = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        train(config, data_dir, tmp_path, console=QUIET, callbacks=[interrupted(after)])
    assert not (tmp_path / "manifest.json").exists()
    run(config, data_dir, tmp_path)
    assert_same_run(config, data_dir, tmp_path, whole)


def test_a_run_cut_before_its_evaluation_evaluates_first(
    data_dir: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(train={"checkpoint_every": 30, "max_epochs": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Validation, "figures", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(config, data_dir, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.index")] == ["ckpt-30.index"]
    assert run(config, data_dir, tmp_path)["best_step"] == 30
    assert len(history(tmp_path)) == 1


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    settings = {
        "max_epochs": 6,
        "patience": 6,
        "steps_per_execution": 1,
        "checkpoint_every": 20,
    }
    config = configure(train=settings, **RANDOM)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "trainer.task", str(path), "--data-dir", str(data_dir)]
    process = subprocess.Popen(
        [*command, "--model-dir", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 900
    while not (killed / "checkpoints" / "checkpoint").exists():
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "manifest.json").exists()

    said = Console(record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    train(config, data_dir, killed, console=said)
    said.file.close()
    assert "going on at step" in said.export_text()
    run(config, data_dir, whole)
    assert_same_run(config, data_dir, killed, whole)


def test_a_file_that_is_damaged_in_the_middle_of_a_stream_is_told(
    data_copy: Path, configure: Configure, tmp_path: Path
) -> None:
    file = data_copy / "examples" / "train" / "part-00001.tfrecord"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    config = configure(train={"shuffle_buffer": 200})
    with pytest.raises(LongtailError, match=r"part-00001\.tfrecord is damaged, .*: run preprocess"):
        train(config, data_copy, tmp_path, console=Console(quiet=True))


def test_nan_ends_a_run_with_its_step_and_likely_causes(
    data_dir: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingData.dataset

    def spoilt(self: TrainingData, start_step: int) -> tf.data.Dataset:
        numbered = original(self, start_step).enumerate(start_step)
        return numbered.map(
            lambda step, batch: {
                **batch,
                "age": tf.where(step < 18, batch["age"], np.float32("nan")),
            }
        )

    monkeypatch.setattr(TrainingData, "dataset", spoilt)
    with pytest.raises(LongtailFailure, match=r"at step 20 .*train\.learning_rate.*temperature"):
        run(configure(), data_dir, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    found = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.index"))
    assert found == ["ckpt-16.index", "ckpt-8.index"]


def test_validation_without_targets_keeps_the_last_weights(
    data_dir: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = dict.fromkeys(["recall@10/all"], float("nan"))
    monkeypatch.setattr(Validation, "figures", lambda *_: figures)
    said = Console(record=True, file=io.StringIO(), width=200)
    summary = train(configure(train={"patience": 1}), data_dir, tmp_path, console=said)
    assert summary["best"] is None
    assert summary["best_step"] == summary["steps"] == 60
    assert history(tmp_path)[0]["recall@10/all"] is None
    printed = said.export_text()
    assert "nobody has a target" in printed and "best so far" not in printed


def test_validation_samples_users_and_modes(data_dir: Path, configure: Configure) -> None:
    model = build_model(configure(), data_dir)
    few = configure(evaluate={"max_validation_users": 5}, train={"monitor": "recall@5/new"})
    figures = Validation(few, data_dir).figures(model)
    np.testing.assert_equal(Validation(few, data_dir).figures(model), figures)  # NaN equals NaN
    assert set(figures) >= {"recall@5/new", "ndcg@10/new", "recall@10/new/tail"}
    assert figures != Validation(configure(train={"monitor": "recall@5/new"}), data_dir).figures(
        model
    )


def test_missing_data_names_the_remedy(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="run preprocess"):
        run(configure(), tmp_path / "nothing", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_holds_the_progress(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure()
    state = RunState(build_model(config, data_dir), tmp_path, keep=2)
    assert not state.restore()
    state.record({"step": 0}, 0.5, patience=3)
    assert not state.record({"step": 0}, 0.4, patience=3)
    other = RunState(build_model(config, data_dir), tmp_path, keep=2)
    assert other.restore()
    assert other.progress == state.progress
    assert (other.progress.best, other.progress.since_best) == (0.5, 1)


@pytest.mark.slow
def test_entry_point(
    data_dir: Path, configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    document = configure().model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(document))
    places = ["--data-dir", str(data_dir), "--model-dir", str(tmp_path / "model")]
    assert task.main([str(path), "--set", "train.max_epochs=1", *places]) == 0
    assert "recall@10/all" in capsys.readouterr().out
    assert task.main([str(path), "--set", "train.max_epoch=1", *places]) == 2
    assert "train.max_epoch: unknown key" in capsys.readouterr().err
    assert task.main([str(path), "--data-dir", str(tmp_path)]) == 2
    assert "run preprocess" in capsys.readouterr().err
