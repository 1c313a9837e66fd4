"""Three days of a shop: learn, go on with new customers and articles, refuse a bad model, roll back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from rich.console import Console

from pipelines import config as configuration
from pipelines.cli import main
from pipelines.commands import embedded
from pipelines.config import Paths
from pipelines.rollout import rollout
from preprocessing.base.artifacts import read_manifest
from serving.export import labels
from serving.export.folder import read_labels, version_paths
from tests.e2e import days
from trainer.data.vocabulary import open_transform
from trainer.loop.build import build_model, load_model


class Shop:
    """Runs days and looks at what they left."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def config(self, day: int) -> Path:
        document = days.document(self.root, day, self.root / f"day-{day}")
        path = self.root / f"day-{day}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def paths(self, day: int) -> Paths:
        return configuration.load(self.config(day))[1]

    def run(self, day: int, *more: str, verb: str = "run") -> int:
        return main([verb, str(self.config(day)), *more])

    def state(self) -> tuple[list[int], dict[str, int]]:
        export = self.paths(1).export
        return sorted(version_paths(export)), read_labels(str(export))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The end of the second day."""
    made = Shop(tmp_path_factory.mktemp("daily"))
    assert made.run(1) == 0
    assert made.state() == ([1], {"stable": 1})
    # What a kill between the final fit and its publication leaves: nothing is served by half.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "_publish", interrupted)
        assert made.run(2, "--continue-from", str(made.root / "day-1")) == 130  # as a shell says it
    assert made.state() == ([1], {"stable": 1})
    assert made.run(2, "--continue-from", str(made.root / "day-1")) == 0
    return made


def interrupted(*_: Any) -> Path:
    raise KeyboardInterrupt


def tables(shop: Shop, day: int, build: Callable[..., Any]) -> dict[bytes, np.ndarray]:
    """Key -> row of the embeddings of articles and customers."""
    config, paths = configuration.load(shop.config(day))
    model = build(config, paths)
    found = {}
    for name, side, tower in (
        ("article", "item", model.item_tower),
        ("customer", "query", model.query_tower),
    ):
        keys = open_transform(paths.data, side).vocabulary_by_name(name)
        rows = tower.embeddings.tables[name].numpy()[1 : len(keys) + 1]
        found.update(zip(keys, rows, strict=True))
    return found


def test_the_second_day_knows_the_first_and_what_is_new(shop: Shop) -> None:
    assert shop.state() == ([1, 2], {"stable": 2})
    summary = json.loads((shop.paths(2).model / "manifest.json").read_text())
    counts = [
        json.loads((shop.paths(d).data / "manifest.json").read_text())["counts"]["examples"]
        for d in (1, 2)
    ]
    assert summary["examples"] == counts[1]["train"] - counts[0]["train"]  # each new event, once
    assert summary["continued"]["rows"]["article"]["gone"] == 0
    assert summary["continued"]["rows"]["customer"] == {"kept": 52, "new": 5, "gone": 0}
    first, second = (
        tables(shop, day, lambda c, p: load_model(c, p.data, p.model)) for day in (1, 2)
    )
    fresh = tables(shop, 2, lambda c, p: build_model(c, p.data))
    assert set(first) < set(second) and b"C053" in set(second) - set(first)

    def alike(one: np.ndarray, two: np.ndarray) -> float:
        return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))

    # Old rows went on from where they were: a training from scratch would have turned them at random.
    assert np.median([alike(first[key], second[key]) for key in first]) > 0.9
    assert abs(np.median([alike(first[key], fresh[key]) for key in first])) < 0.5
    # A new customer began as an unknown one was answered, and learned something.
    config, paths = configuration.load(shop.config(1))
    model = load_model(config, paths.data, paths.model)
    unknown = model.query_tower.embeddings.tables["customer"].numpy()[-1]
    assert 0.001 < np.linalg.norm(second[b"C053"] - unknown) < 0.1


def test_the_proof_lies_beside_the_version(shop: Shop) -> None:
    extra = shop.paths(2).export / "2" / "assets.extra"
    record = json.loads((extra / rollout.BLESSING).read_text())
    names = [each["name"] for each in record["checks"]]
    assert "recall@10/all overall against the blessed model" in names
    assert all(each["passed"] for each in record["checks"])
    assert json.loads((extra / "longtail.json").read_text())["version"] == 2
    assert not (shop.paths(2).work_dir / "candidate" / "shop").exists()
    text = (shop.paths(2).export / labels.MODELS_CONFIG).read_text()
    assert "specific { versions: 2 }" in text and 'key: "stable" value: 2' in text


def test_what_is_served_has_learned_all_and_what_was_evaluated_only_the_past(shop: Shop) -> None:
    paths = shop.paths(2)
    said = json.loads((paths.export / "2" / "assets.extra" / "longtail.json").read_text())
    fit = said["final_fit"]
    data, model = (read_manifest(path) or {} for path in (paths.data, paths.model))
    fitted = read_manifest(paths.final / "model") or {}
    assert (fit["how"], fit["learning_rate"]) == ("continue", 0.001)  # a hundredth of 0.1
    evaluated, served = fit["evaluated"], fit["served"]
    assert (evaluated["data"], evaluated["model"]) == (data["fingerprint"], model["fingerprint"])
    assert said["made_from"]["model"] == fitted["fingerprint"] != model["fingerprint"]
    # 5,000 orders, one a minute: day two ends with the minute 4,999.
    assert (evaluated["before"], evaluated["until"]) == (data["split"]["validation_from"], None)
    assert (served["before"], served["until"]) == (None, "2024-05-04T11:19:00")
    train = data["counts"]["train_examples"]
    assert (evaluated["examples"], served["examples"]) == (train, 5_000)
    assert served["examples_of_last_training"] == 5_000 - train
    assert fitted["continued"]["from"] == model["fingerprint"]
    figures = json.loads((paths.export / "2" / "assets.extra" / "metrics.json").read_text())
    assert figures["made"]["data_fingerprint"] == data["fingerprint"]
    page = (paths.evaluation / "report.html").read_text()
    assert "What was evaluated, and what is served" in page and served["until"] in page


def test_a_second_call_does_nothing_anew(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.run(2, "--continue-from", str(shop.root / "day-1")) == 0
    said = capsys.readouterr().out
    for artifact in ("data", "model", "export", "evaluation", "rollout"):
        assert f"{artifact} is current" in said


def test_a_kill_between_publishing_and_the_label_is_made_good(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a kill after the rename of version 2 leaves: the version, and the label at 1.
    (shop.paths(2).export / "labels.json").write_text('{"stable": 1}\n')
    assert shop.run(2, "--continue-from", str(shop.root / "day-1")) == 0
    assert shop.state() == ([1, 2], {"stable": 2})


def test_a_model_made_worse_is_neither_blessed_nor_pushed(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["--set", "train.continued_learning_rate=5", "--continue-from", str(shop.root / "day-2")]
    assert shop.run(3, *bad) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: not blessed: ")
    assert "recall@10/all overall against the blessed model" in said
    assert "label stable stays at 2" in said and len(said.strip().splitlines()) == 1
    assert shop.state() == ([1, 2], {"stable": 2})
    # It went on from the evaluated model of day two, not from the one that is served, which knows
    # the test events of day three in part.
    summary = read_manifest(shop.paths(3).model) or {}
    before = read_manifest(shop.paths(2).model) or {}
    assert summary["continued"]["from"] == before["fingerprint"]
    judged = json.loads((shop.paths(3).evaluation / "gates.json").read_text())
    assert not all(each["passed"] for each in judged["checks"])
    page = (shop.paths(3).evaluation / "report.html").read_text()
    assert "Not blessed" in page and "recall@10/all overall against the blessed model" in page


def test_rollback_moves_the_label_and_the_server_follows(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    export = shop.paths(1).export
    with embedded.server(export, Console(quiet=True)) as client:
        url = f"{client.base_url}/v1/models/shop"

        def versions(path: str) -> str:
            return str(httpx.get(f"{url}{path}/metadata").json()["model_spec"]["version"])

        assert versions("") == versions("/labels/stable") == "2"
        assert shop.run(1, verb="rollback") == 0
        assert "label stable: 2 -> 1" in capsys.readouterr().out
        deadline = time.monotonic() + 300
        while not versions("/labels/stable") == versions("") == "1":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert versions("") == versions("/labels/stable") == "1"
        # A known customer is recommended something by the model of the first day.
        query = {"customer": ["C001"], "history": ["A001"]}
        assert len(client.recommend([query], k=5)[0]) == 5
    # The rolled-back day does not come back by itself, and there is nothing before the first.
    assert shop.run(2, "--continue-from", str(shop.root / "day-1")) == 0
    assert "version 2 was rolled back: label stable stays at 1" in capsys.readouterr().out
    assert shop.run(1, verb="rollback") == 2
    assert "expected an earlier blessed version" in capsys.readouterr().err
    assert shop.state() == ([1, 2], {"stable": 1})
    assert shop.run(1, "--to", "2", verb="rollback") == 0
    assert shop.state() == ([1, 2], {"stable": 2})


def test_a_run_may_be_named_by_its_day(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.run(3, "--continue-from", "2024-05-02") == 2
    assert "2024-05-02 is no finished run" in capsys.readouterr().err


def test_bad_input_is_told_before_any_work(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert shop.run(3, "--continue-from", str(shop.root / "day-0")) == 2
    assert "is no finished run" in capsys.readouterr().err
    assert shop.run(3, "--continue-from", str(shop.root / "day-2" / "final")) == 2
    assert "instead of a final fit, name the work_dir that it is of" in capsys.readouterr().err
    more = ["--continue-from", str(shop.root / "day-1"), "--set", "rollout.export_dir=null"]
    assert shop.run(3, *more) == 2
    assert "the same for every day" in capsys.readouterr().err
