"""The same sources through Beam's engine in memory, with two processes and as a portable job: equal artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from pipelines import config as configuration
from preprocessing.run import preprocess
from tests.e2e import shop

RUNNERS = {
    "processes": ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
    # What a Flink or Spark job server is given, by Beam's own in this process.
    "portable": ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"],
}
ORDER_FILES = 5


@pytest.fixture(scope="module")
def divided_shop(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The shop's log in several files and its articles in several row groups: work for two workers."""
    directory = tmp_path_factory.mktemp("divided")
    shop.write_sources(directory)
    path = shop.write_config(directory, root)
    header, *lines = (directory / "orders.csv").read_text().splitlines()
    for number in range(ORDER_FILES):
        text = "\n".join([header, *lines[number::ORDER_FILES]]) + "\n"
        (directory / f"orders-{number}.csv").write_text(text)
    articles = directory / "articles.parquet"
    pq.write_table(pq.read_table(articles), articles, row_group_size=50)
    document = yaml.safe_load(path.read_text())
    document["data"]["interactions"]["path"] = str(directory / "orders-*.csv")
    document["preprocess"] |= {"rows_per_partition": 1_500, "batch_rows": 400}
    path.write_text(yaml.safe_dump(document))
    return path


def made(config_file: Path, data_dir: Path, *beam_options: str) -> Path:
    config, _ = configuration.load(config_file)
    preprocess(config, data_dir, beam_options=beam_options)
    return data_dir


@pytest.fixture(scope="module")
def in_memory(divided_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(divided_shop, tmp_path_factory.mktemp("in_memory") / "data")


def content(data: Path) -> dict[str, Any]:
    """Relative path -> what must be equal to the last bit, in order."""
    exact = {}
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        name = path.relative_to(data).as_posix()
        if name == "manifest.json":
            manifest = json.loads(path.read_text())
            exact[name] = {key: value for key, value in manifest.items() if key != "seconds"}
        elif name == "item_counts.parquet":
            exact[name] = pq.read_table(path, columns=["item", "examples", "events"])
        elif path.suffix == ".parquet":
            exact[name] = pq.read_table(path)
        elif path.suffix == ".tfrecord":
            # Examples are maps, which protobuf writes in any order.
            records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
            exact[name] = [tf.train.Example.FromString(record) for record in records]
        elif path.suffix == ".pb":
            exact[name] = None  # a graph: nodes are named by process; what it computes is compared
        else:
            exact[name] = path.read_bytes()
    return exact


@pytest.mark.parametrize("runner", RUNNERS)
def test_artifacts_do_not_depend_on_the_runner(
    divided_shop: Path, in_memory: Path, tmp_path: Path, runner: str
) -> None:
    other = made(divided_shop, tmp_path / "data", *RUNNERS[runner])
    expected, received = content(in_memory), content(other)
    assert list(expected) == list(received)
    assert len(list((other / "examples" / "train").iterdir())) > 2
    wrong = [name for name in expected if expected[name] != received[name]]
    assert not wrong
    # Sums of floats over workers, in whichever order they finish.
    recent = [f"recent_{name}" for name in ("validation", "test", "now")]
    tables = [pq.read_table(d / "item_counts.parquet", columns=recent) for d in (in_memory, other)]
    for name in recent:
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-12)
