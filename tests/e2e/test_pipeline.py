"""The steps as a TFX pipeline: pushed once, cached after that, and stopped or refused where it should be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import config as configuration
from pipelines.tfx.local import LOG
from serving.export import newest_version

pytest.importorskip("tfx")
QUICK = ("train.max_epochs=2", "evaluate.baselines=[popularity]", "gates.k=10")
_DEADLINE = 300.0


def command(config: Path, work_dir: Path, *overrides: str) -> list[str]:
    words = [sys.executable, "-m", "pipelines.cli", "pipeline", "run", str(config)]
    for override in (f"work_dir={work_dir}", *QUICK, *overrides):
        words += ["--set", override]
    return words


def run(config: Path, work_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, work_dir, *overrides), capture_output=True, text=True, timeout=_DEADLINE
    )


def artifact(work_dir: Path, node: str, name: str, which: Callable[..., Path] = max) -> Path:
    """The newest artifact of a component; by `min` the first."""
    return which((work_dir / "tfx" / node / name).iterdir(), key=lambda path: int(path.name))


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory, shop_config: Path) -> Path:
    """The shop after its first run."""
    directory = tmp_path_factory.mktemp("pipeline")
    first = run(shop_config, directory)
    assert first.returncode == 0, first.stderr
    assert "pushed" in first.stdout
    return directory


def test_the_pushed_version_serves_and_artifacts_are_tfx_s_own(work_dir: Path) -> None:
    from serving.servable import Servable

    pushed = newest_version(work_dir / "export" / "shop")
    assert pushed is not None
    servable = Servable(str(pushed))
    assert "recommend" in servable.signature_defs
    servable.close()
    assert {path.name for path in artifact(work_dir, "Preprocessing", "examples").iterdir()} == {
        "Split-train",
        "Split-validation",
        "Split-test",
    }
    graph = artifact(work_dir, "Preprocessing", "transform_graph")
    assert (graph / "transform_fn" / "saved_model.pb").is_file()
    assert (artifact(work_dir, "StatisticsGen", "statistics") / "Split-train").is_dir()
    metrics = json.loads(
        (artifact(work_dir, "RecallEvaluation", "evaluation") / "metrics.json").read_text()
    )
    assert metrics["headline"]
    assert (artifact(work_dir, "RecallGate", "blessing") / "BLESSED").is_file()


def test_a_second_run_takes_everything_from_the_cache_and_pushes_no_twin(
    work_dir: Path, shop_config: Path
) -> None:
    before = newest_version(work_dir / "export" / "shop")
    again = run(shop_config, work_dir)
    assert again.returncode == 0, again.stderr
    assert newest_version(work_dir / "export" / "shop") == before
    for node in (
        "Preprocessing",
        "StatisticsGen",
        "Trainer",
        "RecallEvaluation",
        "InfraValidation",
    ):
        assert f"{node} from the cache" in again.stdout


def test_a_model_made_worse_is_neither_blessed_nor_pushed(
    work_dir: Path, shop_config: Path
) -> None:
    before = newest_version(work_dir / "export" / "shop")
    worse = run(shop_config, work_dir, "train.learning_rate=1e-7", "train.max_epochs=1")
    assert worse.returncode == 0, worse.stderr
    assert "gate not kept: recall@10/new overall against the blessed model" in worse.stdout
    assert newest_version(work_dir / "export" / "shop") == before
    blessing = artifact(work_dir, "RecallGate", "blessing")
    assert (blessing / "NOT_BLESSED").is_file()
    failed = [c for c in json.loads((blessing / "checks.json").read_text()) if not c["passed"]]
    assert failed


def test_drift_between_training_and_serving_stops_the_pipeline(
    work_dir: Path, shop_config: Path, tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    lines = [{"customer": "C9999", "channel": "kiosk", "history": ["A0001"]} for _ in range(200)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stopped = run(shop_config, work_dir, f"pipeline.serving_log={log}")
    assert stopped.returncode == 1
    assert "anomaly in served customer" in stopped.stdout
    assert "Jensen-Shannon" in (work_dir / "tfx" / LOG).read_text()
    assert "pipeline.drift_threshold" in stopped.stderr


@pytest.mark.parametrize("node", ["Trainer", "Pusher"])
def test_a_killed_run_goes_on_to_the_same_artifacts(
    node: str, work_dir: Path, shop_config: Path, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command(shop_config, tmp_path), stdout=out, stderr=out)
        log, deadline = tmp_path / "tfx" / LOG, time.monotonic() + _DEADLINE
        while not (log.is_file() and f"Component {node} is running" in log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    there = newest_version(tmp_path / "export" / "shop")
    if node != "Pusher":
        assert there is None
    # A push takes a moment: the kill may come after the rename, never between.
    assert there is None or (there / "assets.extra" / "blessing.json").is_file()
    again = run(shop_config, tmp_path)
    assert again.returncode == 0, again.stderr
    wanted, received = (
        json.loads(
            (artifact(d, "RecallEvaluation", "evaluation", min) / "metrics.json").read_text()
        )
        for d in (work_dir, tmp_path)
    )
    assert received["made"]["fingerprint"] == wanted["made"]["fingerprint"]
    assert (
        received["splits"]["test"]["rankers"]["model"]
        == wanted["splits"]["test"]["rankers"]["model"]
    )
    pushed = newest_version(tmp_path / "export" / "shop")
    assert pushed is not None
    assert [p for p in pushed.parent.iterdir() if p.name.startswith(".")] == []


def test_a_source_without_files_is_refused_before_any_work(
    shop_config: Path, tmp_path: Path
) -> None:
    refused = run(shop_config, tmp_path, "data.interactions.path=nowhere/*.csv")
    assert refused.returncode == 2
    assert "no file matches nowhere/*.csv" in refused.stderr
    assert not (tmp_path / "tfx" / LOG).exists()


def test_vertex_is_refused_without_its_section(shop_config: Path, tmp_path: Path) -> None:
    words = [*command(shop_config, tmp_path), "--runner", "vertex"]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE)
    assert refused.returncode == 2
    assert "vertex: expected a section with project, region and staging_bucket" in refused.stderr


def test_paths_of_a_pipeline_lie_below_the_work_dir(shop_config: Path) -> None:
    _, paths = configuration.load(shop_config)
    assert paths.tfx.parent == paths.work_dir


def test_the_log_may_come_as_an_examples_artifact(shop_config: Path, tmp_path: Path) -> None:
    """What an ExampleGen wrote: compressed tf.train.Examples below Split-train and Split-eval."""
    import csv

    import tensorflow as tf
    from tfx.types import standard_artifacts

    from pipelines.tfx.artifacts import ItemTable, gather
    from pipelines.tfx.preprocessing import Executor
    from pipelines.tfx.sections import sections_of
    from preprocessing.artifacts import read_manifest
    from preprocessing.config import DataSections

    with (shop_config.parent / "orders.csv").open(newline="") as orders:
        rows = list(csv.DictReader(orders))
    whole = [row for row in rows if None not in row.values()]
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    for at, split in enumerate(("Split-train", "Split-eval")):
        (tmp_path / "log" / split).mkdir(parents=True)
        path = str(tmp_path / "log" / split / "data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, options) as writer:
            for row in whole[at::2]:
                feature = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                    for name, value in row.items()
                    if value
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    kinds = {
        "examples": standard_artifacts.Examples,
        "transform_graph": standard_artifacts.TransformGraph,
        "item_table": ItemTable,
    }
    made = {name: kind() for name, kind in kinds.items()}
    for name, each in made.items():
        each.uri = str(tmp_path / name)
    log = standard_artifacts.Examples()
    log.uri = str(tmp_path / "log")
    config, _ = configuration.load(shop_config)
    properties = {"config": sections_of(config, DataSections), "sources": ""}
    Executor().Do({"log": [log]}, {name: [each] for name, each in made.items()}, properties)
    manifest = read_manifest(gather(made["transform_graph"].uri, tmp_path / "data"))
    assert manifest is not None
    assert manifest["counts"]["rows"] == len(whole)
    assert manifest["counts"]["train_examples"] > 1_000


def test_metadata_of_another_version_are_refused_before_any_work(
    shop_config: Path, tmp_path: Path
) -> None:
    import sqlite3

    (tmp_path / "tfx").mkdir()
    with sqlite3.connect(tmp_path / "tfx" / "metadata.sqlite") as database:
        database.execute("CREATE TABLE MLMDEnv (schema_version INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO MLMDEnv VALUES (999)")
    database.close()
    refused = run(shop_config, tmp_path)
    assert refused.returncode == 2
    assert "expected metadata of ml-metadata" in refused.stderr
    assert not (tmp_path / "tfx" / LOG).exists()
