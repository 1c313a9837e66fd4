"""What a pipeline starts from: bad input is refused before any work, and the log may be an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import config as configuration
from preprocessing.base.sole_writer import sole_writer

pytest.importorskip("tfx")
from pipelines.tfx.local import LOG
from tests.e2e.piped import run


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.interactions.path=nowhere/*.csv", "no file matches nowhere/*.csv"),
        (
            "pipeline.schema_file=nowhere.pbtxt",
            "pipeline.schema_file: expected a schema.pbtxt, found no file nowhere.pbtxt",
        ),
    ],
)
def test_a_file_that_is_not_there_is_refused_before_any_work(
    override: str, told: str, shop_config: Path, tmp_path: Path
) -> None:
    refused = run(shop_config, tmp_path, override)
    assert refused.code == 2
    assert told in refused.err
    assert not (tmp_path / "tfx" / LOG).exists()


def test_vertex_is_refused_without_its_section(shop_config: Path, tmp_path: Path) -> None:
    refused = run(shop_config, tmp_path, runner="vertex")
    assert refused.code == 2
    assert "the section 'vertex' is missing, with project, region and staging_bucket" in refused.err


def test_paths_of_a_pipeline_lie_below_the_work_dir(shop_config: Path) -> None:
    _, paths = configuration.load(shop_config)
    assert paths.tfx.parent == paths.work_dir


def test_two_runs_at_once_are_refused(shop_config: Path, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "tfx"):
        refused = run(shop_config, tmp_path)
    assert refused.code == 2
    assert "expected to be alone in writing" in refused.err


def test_the_log_may_come_as_an_examples_artifact(shop_config: Path, tmp_path: Path) -> None:
    """What an ExampleGen wrote: compressed tf.train.Examples below Split-train and Split-eval."""
    import csv

    import tensorflow as tf
    from tfx.types import standard_artifacts
    from tfx.types.experimental.simple_artifacts import Dataset

    from pipelines.tfx.artifacts import gather
    from pipelines.tfx.preprocessing import Executor
    from pipelines.tfx.sections import sections_of
    from preprocessing.base.artifacts import read_manifest
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
        "item_table": Dataset,
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
    assert refused.code == 2
    assert "expected metadata of ml-metadata" in refused.err
    assert not (tmp_path / "tfx" / LOG).exists()
