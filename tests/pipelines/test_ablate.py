"""`longtail ablate`: what it refuses before any work, what it writes, and that a second call only goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pipelines import cli
from pipelines import config as configuration
from pipelines.ablation.arms import LOG_Q, NO_CORRECTION, check, default_arms, variant
from pipelines.ablation.run import ablate
from preprocessing.base.artifacts import write_manifest
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from tests.trainer import synthetic
from trainer.config.sections import TrainerSections

PLAIN = {"towers.popularity": None, "prior.beta": 0}
ABLATE: dict[str, Any] = {
    "seeds": [7],
    "temperatures": [0.1, 0.5],
    "betas": [-0.5, 0, 0.5],
    "arms": {
        NO_CORRECTION: {"set": {**PLAIN, "loss.log_q": "none"}},
        LOG_Q: {"set": PLAIN, "temperatures": [0.2], "tune": {"train.learning_rate": [0.1, 0.2]}},
    },
}
TRAININGS = 4
"""Two temperatures; one, and a second learning rate."""
RECORDS = TRAININGS + 1
"""The baselines have one too."""


def document(work_dir: Path) -> dict[str, Any]:
    config = synthetic.make_config(
        work_dir,
        train={"max_epochs": 1, "monitor": "recall@10/new"},
        evaluate={"baselines": ["popularity", "als"], "als": {"factors": [4], "iterations": 2}},
    )
    written = {**config.model_dump(mode="json"), "ablate": ABLATE}
    for table in ("interactions", "items", "users"):
        written["data"][table]["path"] = str(work_dir / f"{table}.csv")
    return written


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose data are not there yet."""
    work_dir = tmp_path_factory.mktemp("ablate")
    path = work_dir / "config.yaml"
    path.write_text(yaml.safe_dump(document(work_dir)))
    return path


@pytest.fixture(scope="module")
def ready(config_path: Path) -> Path:
    """The same with data that count as current."""
    from preprocessing.run import data_fingerprint

    config, paths = configuration.load(config_path)
    for table in ("interactions", "items", "users"):
        (config_path.parent / f"{table}.csv").touch()
    synthetic.write_data(paths.data)
    write_manifest(paths.data, data_fingerprint(config), {"step": "preprocess"})
    return config_path


def run(path: Path, out: Path, console: Console | None = None, **changes: Any) -> dict[str, Any]:
    overrides = [f"ablate.{key}={json.dumps(value)}" for key, value in changes.items()]
    config, paths = configuration.load(path, overrides)
    return ablate(config, paths, console or Console(quiet=True), out=out)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def done(ready: Path, out: Path) -> dict[str, Any]:
    """The results of the whole comparison."""
    return run(ready, out)


def no_training(*_: Any, **__: Any) -> None:
    raise AssertionError("trained")


def records(out: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in (out / "runs").glob("*.json")}


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("config", "validation", "test", "rankers", "failed")}


@pytest.mark.parametrize("name", ["frontier.svg", "ablation.md", "ablation.json"])
def test_files_of_somebody_else_are_refused_before_any_work(
    config_path: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("[]")
    assert cli.main(["ablate", str(config_path), "--out", str(tmp_path)]) == 2
    assert f"holds {name}, which longtail ablate did not write" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "[]"


def test_an_unknown_arm_is_refused_with_the_known_ones(
    config_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ablate", str(config_path), "--arms", "logq"]) == 2
    error = capsys.readouterr().err
    assert "received 'logq'" in error
    assert f"'{LOG_Q}'" in error


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ({"set": {"loss.tau": 1}}, "arm 'x': loss.tau: unknown key"),
        ({"set": {"loss.temperature.at": 1}}, "arm 'x': loss.temperature.at: 'temperature' holds"),
        ({"set": {"negatives.uniform": -1}}, "arm 'x': negatives.uniform: "),
        ({"set": {"evaluate.ks": [1]}}, "arm 'x': evaluate.ks: expected a key of towers"),
        ({"tune": {"ssl.strength": [1, 2]}}, "arm 'x': ssl.strength: unknown key"),
        ({"temperatures": []}, "ablate.arms.x.temperatures: "),
        ({"change": {}}, "ablate.arms.x.change: unknown key"),
    ],
)
def test_an_impossible_arm_is_refused_before_any_work(
    arm: dict[str, Any], told: str, config_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"good": {}, "x": arm}  # there are no data: whatever began would end with another error
    assert cli.main(["ablate", str(config_path), "--set", f"ablate.arms={json.dumps(arms)}"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [("betas", [0.5, 0]), ("betas", [0.5, 1]), ("seeds", [1, 1]), ("seeds", []), ("arms", {})],
)
def test_an_impossible_section_is_refused(key: str, value: Any, config_path: Path) -> None:
    with pytest.raises(LongtailError, match=f"ablate.{key}"):
        configuration.load(config_path, [f"ablate.{key}={json.dumps(value)}"])


@pytest.mark.parametrize("name", ["complete_journey", "movielens_1m"])
def test_the_default_arms_suit_the_configurations_of_the_repository(root: Path, name: str) -> None:
    config, _ = configuration.load(root / "configs" / f"{name}.yaml")
    arms = default_arms(config)
    assert len(arms) >= 12
    for arm_name, arm in arms.items():
        check(config, arm_name, arm, config.ablate.temperatures, 1)


@pytest.mark.parametrize("batch_size", [2, 32, 1024])
def test_an_addition_differs_from_exact_logq_in_nothing_but_its_negatives(
    batch_size: int, tmp_path: Path
) -> None:
    config = synthetic.make_config(
        tmp_path,
        towers={"popularity": {}},
        train={"batch_size": batch_size},
        negatives={"known_positives": "remove", "uniform": 8},
    )
    arms = default_arms(config)

    def effective(name: str) -> dict[str, Any]:
        changed = variant(config, name, tuple(arms[name].set.items()), 1)
        return changed.model_dump(mode="json")

    base = effective(LOG_Q)
    assert (
        base["negatives"]
        == parse_config(document(tmp_path), TrainerSections, "").model_dump(mode="json")[
            "negatives"
        ]
    ), "what the file adds would make the arm's name untrue"
    added = [name for name in arms if name.startswith("+")]
    assert len(added) == 3 + (batch_size > 2)  # nothing is hardest of one negative
    seen = []
    for name in added:
        found = effective(name)
        assert {key for key in found if found[key] != base[key]} == {"negatives"}
        seen.append(found["negatives"])
    assert all(one not in seen[:place] for place, one in enumerate(seen))
    assert effective(NO_CORRECTION)["loss"] == {**base["loss"], "log_q": "none"}


def test_every_variant_can_be_served_at_any_weight_of_the_prior(tmp_path: Path) -> None:
    config = synthetic.make_config(tmp_path)
    assert variant(config, "x", (), 1).prior is not None
    learned = variant(config, "x", (("towers.popularity", {}),), 1)
    assert learned.prior is None
    assert variant(config, "x", (("prior.beta", 0.5),), 1).prior is not None


@pytest.mark.slow
def test_the_files_are_written_and_no_model_is_kept(done: dict[str, Any], out: Path) -> None:
    names = {path.name for path in out.iterdir()} - {".lock"}
    assert names == {"ablation.md", "ablation.json", "frontier.svg", "runs"}
    assert len(records(out)) == RECORDS
    assert json.loads((out / "ablation.json").read_text()) == done
    assert ElementTree.parse(out / "frontier.svg").getroot().tag.endswith("svg")
    text = (out / "ablation.md").read_text()
    for told in (
        NO_CORRECTION,
        "popularity",
        "ALS (",
        "factors 4",
        "`longtail ablate`",
        "Correct in",
    ):
        assert told in text
    for name, arm in done["arms"].items():  # among the arms, then at beta 0 and at the tuned one
        assert text.count(f"| {name} | ") == 1 + len({0, arm["beta"]})


@pytest.mark.slow
def test_what_is_reported_was_chosen_on_validation(done: dict[str, Any], out: Path) -> None:
    for arm in done["arms"].values():
        tried = {(one["key"], one["value"]): one for one in arm["search"]}
        temperatures = {v: one for (key, v), one in tried.items() if key == "loss.temperature"}
        best = max(temperatures, key=lambda value: temperatures[value]["validation"])
        assert arm["temperature"] == best
        overall = arm["runs"][0]["validation"]["overall"]
        assert max(overall) == max(one["validation"] for one in tried.values())
        place = done["betas"].index(arm["beta"])
        assert overall[place] == max(overall)
        for group in ("overall", "head", "torso", "tail"):
            assert arm["test"][group] == {"mean": arm["runs"][0]["test"][group][place], "std": None}
        assert arm["test_at_zero"]["tail"]["mean"] == arm["frontier"]["test"]["tail"][1]
    judged_on_test = [record for record in records(out).values() if "test" in record]
    assert len(judged_on_test) == len(done["arms"])


@pytest.mark.slow
def test_a_beta_of_the_frontier_is_what_evaluation_finds_with_that_prior(
    done: dict[str, Any], ready: Path, tmp_path: Path
) -> None:
    from preprocessing.base.progress import Stages
    from trainer.evaluate import collect
    from trainer.task import train

    config, paths = configuration.load(ready)
    arm = done["arms"][NO_CORRECTION]
    changes = (*arm["set"].items(), ("loss.temperature", arm["temperature"]))
    console = Console(quiet=True)
    train(variant(config, "x", changes, 7), paths.data, tmp_path, console=console)
    for place, beta in enumerate(done["betas"]):
        served = variant(config, "x", (*changes, ("prior.beta", beta)), 7)
        metrics, _ = collect(served, paths.data, tmp_path, Stages(console))
        for split in ("validation", "test"):
            cells = metrics["splits"][split]["rankers"]["model"]["new"]
            for group, recalls in arm["runs"][0][split].items():
                assert recalls[place] == cells[group]["recall@10"]


@pytest.mark.slow
def test_a_second_call_trains_nothing(
    done: dict[str, Any], ready: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.ablation.runs.train", no_training)
    again = run(ready, out)
    assert {**again, "made": 0} == {**done, "made": 0}
    only = run(ready, out, arms={LOG_Q: ABLATE["arms"][LOG_Q]})
    assert only["arms"] == {LOG_Q: done["arms"][LOG_Q]}
    for change in ({"betas": [-0.5, 0, 0.25]}, {"seeds": [8]}, {"temperatures": [0.3]}):
        with pytest.raises(AssertionError, match="trained"):
            run(ready, out, **change)


@pytest.mark.slow
def test_a_call_that_dies_between_two_trainings_goes_on(
    done: dict[str, Any], ready: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.ablation.runs as module

    train, begun = module.train, []

    def counted(limit: int) -> Callable[..., Any]:
        def once(*arguments: Any, **options: Any) -> Any:
            if len(begun) == limit:
                raise KeyboardInterrupt
            begun.append(arguments)
            return train(*arguments, **options)

        return once

    monkeypatch.setattr(module, "train", counted(2))
    with pytest.raises(KeyboardInterrupt):
        run(ready, tmp_path)
    assert len(begun) == 2
    assert len(records(tmp_path)) == 3
    begun.clear()
    monkeypatch.setattr(module, "train", counted(100))
    run(ready, tmp_path)
    # Each arm asks once more for the model that won, which still lies there, to rank test.
    assert len(begun) == TRAININGS - 2 + len(ABLATE["arms"])
    assert {name: without_times(r) for name, r in records(tmp_path).items()} == {
        name: without_times(r) for name, r in records(out).items()
    }


@pytest.mark.slow
def test_a_killed_call_loses_the_running_training_at_most(
    done: dict[str, Any],
    ready: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "ablate", str(ready), "--out", str(tmp_path)]
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process:
        deadline = time.monotonic() + 1800
        while len(list((tmp_path / "runs").glob("*.json"))) < 2:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    kept = records(tmp_path)
    assert len(kept) >= 2
    capsys.readouterr()
    assert cli.main(command[command.index("ablate") :]) == 0
    told, _, table = capsys.readouterr().out.partition("written:")
    assert "kept from before" in told
    assert NO_CORRECTION in table
    found = records(tmp_path)
    assert {name: found[name].get("validation") for name in kept} == {
        name: record.get("validation") for name, record in kept.items()
    }
    assert {name: without_times(r) for name, r in found.items()} == {
        name: without_times(r) for name, r in records(out).items()
    }


@pytest.mark.slow
def test_an_arm_that_fails_is_recorded_and_the_others_go_on(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.ablation.runs as module

    train = module.train

    def failing(config: TrainerSections, *arguments: Any, **options: Any) -> Any:
        if config.loss.log_q == "none":
            raise LongtailFailure("the loss is not a number at step 3")
        return train(config, *arguments, **options)

    monkeypatch.setattr(module, "train", failing)
    found = run(ready, tmp_path)
    assert "not a number" in found["arms"][NO_CORRECTION]["failed"]
    assert found["arms"][LOG_Q]["test"]["overall"]["mean"] is not None
    text = (tmp_path / "ablation.md").read_text()
    assert f"{NO_CORRECTION} failed: the loss is not a number at step 3" in text
    monkeypatch.setattr(module, "train", no_training)
    with pytest.raises(LongtailFailure, match=r"every arm failed: .*step 3"):
        run(ready, tmp_path, arms={NO_CORRECTION: ABLATE["arms"][NO_CORRECTION]})


@pytest.mark.slow
def test_a_full_disk_is_no_failure_of_the_arm(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise LongtailFailure("cannot write: no space left") from OSError(28, "no space left")

    monkeypatch.setattr("pipelines.ablation.runs.train", full)
    with pytest.raises(LongtailFailure, match="no space left"):
        run(ready, tmp_path)
    assert all(name.startswith("baselines") for name in records(tmp_path))
