"""Preprocessing of a foreign data set: what is written, what is refused, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from pipelines import config as configuration
from pipelines.config import Paths, RunConfig
from preprocessing.base.errors import LongtailError
from preprocessing.run import preprocess

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def rows_of(directory: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(directory.glob("part-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            found.append(
                {
                    k: list(getattr(v, v.WhichOneof("kind")).value) if v.WhichOneof("kind") else []
                    for k, v in features.items()
                }
            )
    return found


@pytest.fixture(scope="module")
def log(shop_config: Path) -> pd.DataFrame:
    """The orders as pandas reads them, in the order of the log, with rows of the catalogue."""
    frame = pd.read_csv(
        shop_config.parent / "orders.csv", keep_default_na=False, on_bad_lines="skip", dtype=str
    ).iloc[:6_000]
    frame["at"] = pd.to_datetime(frame.ordered_at, format="%d/%m/%Y %H:%M").astype("int64") // 10**9
    frame["row"] = frame.article.str[1:].astype(int) + 1
    return frame


def test_every_example_matches_the_log(
    preprocessed: tuple[RunConfig, Paths], log: pd.DataFrame
) -> None:
    _, paths = preprocessed
    train = rows_of(paths.data / "examples" / "train")
    manifest = json.loads((paths.data / "manifest.json").read_text())
    bound = pd.Timestamp(manifest["split"]["validation_from"]).timestamp()
    expected = log[log["at"] < bound]
    assert len(train) == len(expected) == manifest["counts"]["examples"]["train"]
    got = Counter((r["timestamp"][0], r["item"][0], r["reward"][0]) for r in train)
    assert got == Counter(
        zip(expected["at"], expected["row"], expected["amount"].astype(float), strict=True)
    )
    at = {t: r for r in train for t in r["timestamp"]}  # every order has an instant of its own
    for customer, own in expected.groupby("customer"):
        past: list[int] = []
        for instant, row in zip(own["at"], own["row"], strict=True):
            assert at[instant]["history"] == past[-20:], customer
            past.append(row)


def test_queries_hold_targets_and_what_was_seen(
    preprocessed: tuple[RunConfig, Paths], log: pd.DataFrame
) -> None:
    _, paths = preprocessed
    manifest = json.loads((paths.data / "manifest.json").read_text())
    start = pd.Timestamp(manifest["split"]["test_from"]).timestamp()
    queries = {q["user"][0].decode(): q for q in rows_of(paths.data / "examples" / "test")}
    later = log[log["at"] >= start]
    assert set(queries) == set(later.customer)
    for customer, query in queries.items():
        own = log[log.customer == customer]
        before = own[own["at"] < start]
        assert query["targets"] == list(dict.fromkeys(own[own["at"] >= start]["row"]))
        assert dict(zip(query["seen"], query["seen_counts"], strict=True)) == Counter(before["row"])
        assert query["history"] == list(before["row"])[-20:]


def test_vocabularies_come_from_training_rows_and_missing_is_zero(
    preprocessed: tuple[RunConfig, Paths], log: pd.DataFrame
) -> None:
    _, paths = preprocessed
    query = tft.TFTransformOutput(str(paths.data / "transform_graph" / "query"))
    assert query.vocabulary_by_name("channel") == [b"web", b"app"] or query.vocabulary_by_name(
        "channel"
    ) == [b"app", b"web"]
    items = pq.read_table(paths.data / "items" / "items.parquet").to_pandas()
    assert items["item"].tolist() == [f"A{n:04}" for n in range(120)]
    assert items["title"][1] == "Fine Cup, no. 1, green"
    assert (items["colour"][2::4] == 0).all() and (items["colour"][0::4] > 0).all()
    assert items["price"][0] == 0.0 and items["price_band"][0] == 0  # a missing price
    assert len(items["words"][0]) == 4  # fine, tea, no, 0
    np.testing.assert_allclose(items["tags_weights"][1], [1.5] * len(items["tags"][1]))
    counts = pq.read_table(paths.data / "item_counts.parquet").to_pandas()
    untrained = items["sku"][(counts["examples"] == 0).to_numpy()]
    vocabulary = tft.TFTransformOutput(
        str(paths.data / "transform_graph" / "item")
    ).vocabulary_size_by_name("sku")
    assert vocabulary == (counts["examples"] > 0).sum()
    assert (untrained > vocabulary).all()  # ids that are never trained on share the hashed buckets


def test_refused_rows_are_kept_with_their_reason(preprocessed: tuple[RunConfig, Paths]) -> None:
    _, paths = preprocessed
    lines = [
        json.loads(x)
        for p in (paths.data / "rejected").glob("*.jsonl")
        for x in p.read_text().splitlines()
    ]
    assert Counter(line["reason"] for line in lines) == {
        "missing user": 1, "unknown item": 1, "unparsable time": 1, "malformed row": 1,
    }  # fmt: skip
    assert json.loads((paths.data / "manifest.json").read_text())["counts"]["rows"] == 6_004


def test_a_second_run_is_skipped(preprocessed: tuple[RunConfig, Paths]) -> None:
    config, paths = preprocessed
    before = (paths.data / "manifest.json").stat().st_mtime_ns
    preprocess(config, paths.data)
    assert (paths.data / "manifest.json").stat().st_mtime_ns == before


def test_too_many_refused_rows_stop_the_step_and_leave_nothing(
    shop_config: Path, tmp_path: Path
) -> None:
    config, _ = configuration.load(shop_config, ["preprocess.max_rejected_fraction=0.0001"])
    with pytest.raises(
        LongtailError, match=r"rejected 4 of 6,004 rows of the log .*max_rejected_fraction"
    ):
        preprocess(config, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_could_be_taken_for_whole(
    shop_config: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "preprocessing.run",
        str(shop_config),
        "--data-dir",
        str(tmp_path / "data"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not list(tmp_path.glob(".data.*.tmp/.scratch-*/log/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data").exists()
    config, _ = configuration.load(shop_config, ["preprocess.min_user_count=100000"])
    with pytest.raises(LongtailError, match="left to train on"):
        preprocess(config, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []  # the next run swept up
