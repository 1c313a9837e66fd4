"""What docs/your_data.md promises, with its own configuration: run, recommend, serve, and a second run that is idle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from rich.console import Console

from pipelines import config as configuration
from pipelines.commands import embedded, shop
from pipelines.config import Paths, RunConfig
from serving.export.folder import read_labels, version_paths

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.both_stacks]


def longtail(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)


@pytest.fixture(scope="module")
def ran(shop_config: Path, preprocessed: tuple[RunConfig, Paths]) -> str:
    """The output of `longtail run` on the preprocessed shop."""
    done = longtail("run", str(shop_config))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_writes_every_artifact_and_shows_the_result(
    ran: str, preprocessed: tuple[RunConfig, Paths]
) -> None:
    _, paths = preprocessed
    assert "data is current" in ran
    for bucket in ("overall", "head", "torso", "tail"):
        assert bucket in ran
    metrics = json.loads((paths.evaluation / "metrics.json").read_text())
    rankers = metrics["splits"]["test"]["rankers"]
    assert {"model", "popularity", "own_frequent", "als"} <= set(rankers)
    assert "<html" in (paths.evaluation / "report.html").read_text()
    assert sorted(version_paths(paths.export)) == [1]
    assert read_labels(str(paths.export)) == {"stable": 1}
    assert list((paths.model / "logs").glob("events.out.tfevents*"))


def test_a_second_run_does_nothing_anew(ran: str, shop_config: Path) -> None:
    again = longtail("run", str(shop_config))
    assert again.returncode == 0, again.stderr
    for artifact in ("data", "model", "export", "evaluation"):
        assert f"{artifact} is current" in again.stdout


def test_recommendations_come_with_titles(ran: str, shop_config: Path) -> None:
    done = longtail(
        "recommend", str(shop_config), "--user", "C0007", "--feature", "channel=web", "-k", "5"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Fine ") == 5
    wrong = longtail("recommend", str(shop_config), "--user", "C0007", "--feature", "shoe=42")
    assert wrong.returncode == 2
    assert "unknown query feature shoe" in wrong.stderr


def test_the_server_recommends_what_the_savedmodel_does(
    ran: str, preprocessed: tuple[RunConfig, Paths]
) -> None:
    _, paths = preprocessed
    query = shop.sample_queries(paths.data)[0]
    with embedded.server(paths.export, Console()) as client:
        served = client.recommend([query], k=5)[0]
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(paths.export / "1"))
        signature = meta.signature_def["recommend"]
        given = {**{n: [v] for n, v in query.items()}, "exclude": [[""]], "k": 5}
        feed = {t.name: given[n] for n, t in signature.inputs.items()}
        ids = session.run(signature.outputs["item_ids"].name, feed)
    assert [item for item, _ in served] == [item.decode() for item in ids[0]]
    assert len(set(ids[0])) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "cannot read the configuration none.yaml"),
        (["train", "CONFIG", "--set", "train.speed=9"], "train.speed: unknown key"),
        (["train", "CONFIG", "--set", "towers.dim=none"], "towers.dim"),
        (["train", "CONFIG", "--set", "work_dir=nowhere"], "run preprocess"),
        (["evaluate", "CONFIG", "--set", "work_dir=nowhere"], "preprocess"),
        (["export", "CONFIG", "--set", "work_dir=nowhere"], "preprocess"),
        (
            ["train", "CONFIG", "--set", "preprocess.half_life_days=3"],
            "made with another preprocess",
        ),
        (["inspect", "CONFIG", "--set", "preprocess.min_item_count=3"], "another preprocess"),
        (["evaluate", "CONFIG", "--set", "data.min_reward=1"], "made with another data"),
        (["export", "CONFIG", "--set", "data.min_reward=1"], "made with another data"),
        (["serve", "nowhere"], "received no such folder"),
        (["fly"], "No such command"),
        (
            ["preprocess", "CONFIG", "--set", "data.interactions.path=gone.csv"],
            "no file matches gone.csv",
        ),
        (
            ["preprocess", "CONFIG", "--set", "data.columns.timestamp=wann"],
            "expected column 'wann'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    ran: str, shop_config: Path, arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli import main

    given = [str(shop_config) if a == "CONFIG" else a for a in arguments]
    assert main(given) == 2
    printed = capfd.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert all(line.startswith("error: ") for line in printed.strip().splitlines())


def test_a_written_configuration_is_read_back(shop_config: Path) -> None:
    config, paths = configuration.load(shop_config, ["seed=7"])
    assert config.seed == 7
    assert paths.export.name == config.name
