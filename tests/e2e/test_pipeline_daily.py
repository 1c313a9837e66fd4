"""A pipeline a day that goes on from the model that it blessed the day before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cli import main
from pipelines.rollout.final_fit import evaluated_model
from serving.export.folder import read_labels, version_paths
from serving.export.run import read_description
from tests.e2e import days

pytest.importorskip("tfx")


def run(root: Path, day: int, *overrides: str) -> int:
    document = days.document(root, day, root / "work")
    document["pipeline"] = {"continue_blessed": True}
    path = root / f"day-{day}.yaml"
    path.write_text(yaml.safe_dump(document))
    more = [word for override in overrides for word in ("--set", override)]
    return main(["pipeline", "run", str(path), *more])


def trainings(root: Path) -> list[dict[str, Any]]:
    """Manifests of the trainings, oldest first."""
    runs = sorted((root / "work/tfx/Trainer/model_run").iterdir(), key=lambda path: int(path.name))
    return [json.loads((path / "manifest.json").read_text()) for path in runs]


def versions(root: Path) -> list[Path]:
    return [Path(path) for _, path in sorted(version_paths(root / "export" / "shop").items())]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After two days."""
    directory = tmp_path_factory.mktemp("pipeline-daily")
    assert run(directory, 1) == 0
    assert run(directory, 2) == 0
    return directory


def test_the_second_day_goes_on_from_the_blessed_model(root: Path) -> None:
    first, second = trainings(root)
    assert "continued" not in first
    assert second["continued"]["from"] == first["fingerprint"]
    assert second["continued"]["rows"]["customer"] == {"kept": 52, "new": 5, "gone": 0}
    assert second["examples"] < first["examples"] / 2  # the new events alone
    assert len(versions(root)) == 2
    newest = versions(root)[-1]
    assert read_labels(str(newest.parent)) == {"stable": int(newest.name)}
    record = json.loads((newest / "assets.extra" / "blessing.json").read_text())
    names = [check["name"] for check in record["checks"]]
    assert "recall@10/all overall against the blessed model" in names
    assert "the export loads and answers" in names


def test_without_new_events_the_blessed_model_stays(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = versions(root)
    assert run(root, 2) == 0
    assert "no new events since" in capsys.readouterr().out
    *_, second, third = trainings(root)
    assert third == second
    assert versions(root) == before


def test_other_settings_without_new_events_are_not_ignored(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, 2, "train.learning_rate=0.001") == 2
    said = capsys.readouterr().err
    assert "received the same data and other settings" in said
    assert "pipeline.continue_blessed=false" in said


def test_a_training_that_is_there_is_not_repeated(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Another export makes the Trainer run anew.
    assert run(root, 1, "pipeline.continue_blessed=false", "export.k=9") == 0
    assert "taking over the training in" in capsys.readouterr().out
    first, last = trainings(root)[0], trainings(root)[-1]
    assert last == first


def test_after_a_rollback_the_model_that_serves_is_gone_on_from(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = versions(root)[-1], versions(root)[-2]
    assert main(["rollback", str(root / "day-1.yaml")]) == 0
    assert read_labels(str(bad.parent)) == {"stable": int(good.name)}
    capsys.readouterr()
    assert run(root, 3) == 0
    said = capsys.readouterr().out
    assert f"was rolled back: version {good.name} is compared with instead" in said
    behind = evaluated_model(good)
    assert trainings(root)[-1]["continued"]["from"] == behind
    # What serves was fitted from it, and has seen what a later day is judged on.
    assert read_description(good)["made_from"]["model"] != behind
    assert len(versions(root)) == 4 and "pushed" in said


def test_a_rollback_is_no_matter_for_the_cache(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was continued from a model, or refused beside it, is done anew once that is rolled back."""
    assert run(root, 3) == 0  # from the third day's model, which is the blessed one
    third = trainings(root)[-1]
    assert main(["rollback", str(root / "day-1.yaml")]) == 0
    capsys.readouterr()
    assert run(root, 3) == 0
    said = capsys.readouterr().out
    assert "is compared with instead" in said and "Trainer from the cache" not in said
    assert trainings(root)[-1]["continued"]["from"] != third["fingerprint"]


def test_new_events_need_a_boundary_in_time(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, 1, "preprocess.split={method: leave_one_out}") == 2
    assert "pipeline.continue_blessed: expected preprocess.split.method" in capsys.readouterr().err
