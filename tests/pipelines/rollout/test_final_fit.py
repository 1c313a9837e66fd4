"""The final fit by itself: what a version is found again by, the order of its steps, and what lies beside a version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.config import Paths, RunConfig
from pipelines.rollout import final_fit, rollout
from preprocessing.base.artifacts import write_manifest
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailFailure
from serving.export.run import ASSETS, DESCRIPTION

QUIET = Console(quiet=True)
SPLIT = {"validation_from": "2024-05-03T00:00:00", "until": "2024-05-04T00:00:00"}


def config(work_dir: Path, **train: Any) -> RunConfig:
    document = {
        "name": "shop",
        "work_dir": str(work_dir),
        "data": {
            "interactions": {"path": "orders.csv"},
            "columns": {"user": "customer", "item": "article", "timestamp": "at"},
        },
        "features": [
            {"name": "customer", "side": "query", "kind": "id", "dim": 8},
            {"name": "article", "side": "item", "kind": "id", "dim": 8},
        ],
        "train": {"learning_rate": 0.2, **train},
    }
    return parse_config(document, RunConfig, "file.yaml")


def version(folder: Path, model: str, recall: float = 1.0, **more: Any) -> Path:
    (folder / ASSETS).mkdir(parents=True)
    said = {
        "fingerprint": f"export of {model}",
        "made_from": {"data": f"data of {model}", "model": model},
        "index": {"recall": recall},
        **more,
    }
    (folder / ASSETS / DESCRIPTION).write_text(json.dumps(said))
    return folder


def data(path: Path, examples: int, split: dict[str, str]) -> None:
    path.mkdir(parents=True)
    counts = {"train_examples": examples, "train_interactions": examples + 5}
    write_manifest(path, "data", {"counts": counts, "split": split})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[str]]:
    """Lets every step write what it would, and notes the order."""

    def with_recall(recall: float) -> list[str]:
        done: list[str] = []

        def preprocess(given: RunConfig, path: Path, **_: Any) -> None:
            done.append(f"preprocess {given.preprocess.split.held_out}")
            data(path, 100, {"until": SPLIT["until"]})

        def train(given: RunConfig, _: Path, path: Path, **__: Any) -> None:
            done.append(f"train from {Path(str(given.train.continue_from)).name}")
            path.mkdir()
            write_manifest(path, "model", {"examples": 15})

        def export(_: RunConfig, __: Path, ___: Path, folder: Path, **____: Any) -> Path:
            done.append("export")
            return version(folder / "1", "final", recall)

        monkeypatch.setattr("preprocessing.run.preprocess", preprocess)
        monkeypatch.setattr("trainer.task.train", train)
        monkeypatch.setattr(final_fit, "export", export)
        return done

    return with_recall


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Paths, Path]:
    """A blessed candidate of a run that learned 85 of 100 examples."""
    paths = Paths(tmp_path / "day", "shop", tmp_path / "export")
    data(paths.data, 85, SPLIT)
    paths.model.mkdir()
    write_manifest(paths.model, "evaluated", {"examples": 85})
    candidate = version(paths.candidate / "1", "evaluated")
    (candidate / ASSETS / "metrics.json").write_text("{}")
    (candidate / ASSETS / "blessing.json").write_text("{}")
    (candidate / ASSETS / "per_query.parquet").write_text("")
    return paths, candidate


def test_a_version_is_found_again_by_how_it_was_fitted(tmp_path: Path) -> None:
    def wanted(**train: Any) -> str:
        return final_fit.wanted(config(tmp_path, **train), "export")

    assert wanted(final_fit="none") == "export"
    ways = [{}, {"continued_learning_rate": 0.1}, {"final_fit": "from_scratch"}]
    assert len({"export", *(wanted(**train) for train in ways)}) == 4
    # A rate that a fit from scratch does not take makes no other version.
    assert wanted(final_fit="from_scratch", continued_learning_rate=0.1) == wanted(**ways[2])
    # A hundredth of learning_rate by default.
    assert wanted() == wanted(continued_learning_rate=0.002)


def test_it_fits_after_the_evaluated_run_and_says_what_either_has_learned(
    tmp_path: Path, evaluated: tuple[Paths, Path], steps: Callable[[float], list[str]]
) -> None:
    (paths, candidate), done = evaluated, steps(1.0)
    given = config(paths.work_dir)
    made = final_fit.fitted(given, paths, candidate, QUIET, min_index_recall=0.9)
    assert done == ["preprocess train", "train from day", "export"]
    assert made == paths.work_dir / "final" / "candidate" / "shop" / "1"
    said = json.loads((made / ASSETS / DESCRIPTION).read_text())
    assert said["final_fit"] == {
        "fingerprint": final_fit.wanted(given, "export of evaluated"),
        "how": "continue",
        "learning_rate": 0.002,
        "evaluated": {
            "export": "export of evaluated",
            "data": "data of evaluated",
            "model": "evaluated",
            "examples": 85,
            "interactions": 90,
            "before": SPLIT["validation_from"],
            "until": None,
            "examples_of_last_training": 85,
        },
        "served": {
            "examples": 100,
            "interactions": 105,
            "before": None,
            "until": SPLIT["until"],
            "examples_of_last_training": 15,
        },
    }
    # The figures beside it are of the evaluated model, by which later candidates are judged.
    assert final_fit.evaluated_model(made) == "evaluated"
    assert final_fit.evaluated_export(made) == "export of evaluated"
    for name in ("metrics.json", "blessing.json", "per_query.parquet"):
        assert (made / ASSETS / name).is_file()
    assert not (tmp_path / "export").exists()  # published by the rollout, and in one rename
    rollout._publish(paths, made, "stable", None, QUIET)
    served = rollout.served_version(paths.export, final_fit.wanted(given, "export of evaluated"))
    assert served == paths.export / "1"
    # What was served as a final fit is not what `final_fit: none` would serve.
    assert rollout.served_version(paths.export, "export of evaluated") is None
    assert not paths.candidate.exists() and not made.exists()


def test_none_serves_what_was_evaluated(
    evaluated: tuple[Paths, Path], steps: Callable[[float], list[str]]
) -> None:
    (paths, candidate), done = evaluated, steps(1.0)
    given = config(paths.work_dir, final_fit="none")
    made = final_fit.fitted(given, paths, candidate, QUIET, min_index_recall=0.9)
    assert made == candidate and final_fit.evaluated_export(made) == "export of evaluated"
    assert not done and final_fit.evaluated_model(candidate) == "evaluated"


def test_the_gate_of_the_index_holds_of_what_is_served(
    evaluated: tuple[Paths, Path], steps: Callable[[float], list[str]]
) -> None:
    paths, candidate = evaluated
    steps(0.89)
    with pytest.raises(LongtailFailure, match=r"not served: .* at least .*=0\.9, received 0\.890"):
        final_fit.fitted(config(paths.work_dir), paths, candidate, QUIET, min_index_recall=0.9)
