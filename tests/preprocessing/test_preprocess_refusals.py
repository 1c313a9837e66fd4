"""Preprocessing of a small log with refusals, by several partitions, against a slow account of the same log."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from rich.console import Console

from preprocessing.base.config_io import parse_config
from preprocessing.base.progress import Stages
from preprocessing.config import DataSections
from preprocessing.run import preprocess
from trainer.data.example_blocks import ExampleBlocks

pytestmark = pytest.mark.slow
USERS, ITEMS, ROWS, KEPT = 40, 15, 900, 3
BY_TIME = {
    "data": {
        "columns": {"user": "user", "item": "item", "timestamp": "at", "reward": "stars"},
        "min_reward": 4,
        "refused": {"at_most": 2},
    },
    "preprocess": {"split": {"method": "global_time", "validation": 0.1, "test": 0.1}},
}
BY_USER = {
    "data": {
        "columns": {"user": "user", "item": "item", "timestamp": "at"},
        "refused": {"column": "liked", "at_most": 0},
    },
    "preprocess": {"split": {"method": "leave_one_out"}, "examples": "first"},
}


@dataclass(frozen=True)
class Event:
    """A line of the log; every line has an instant of its own, by which its example is found."""

    user: str
    item: int
    at: int


@dataclass(frozen=True)
class Made:
    """What preprocessing wrote, beside what it should have."""

    data: Path
    manifest: dict[str, Any]
    printed: str
    train: list[dict[str, Any]]
    queries: dict[str, list[dict[str, Any]]]
    positives: list[Event]
    """Of all splits."""
    training: list[Event]
    refusals: list[Event]

    @property
    def user_of(self) -> dict[int, str]:
        return {event.at: event.user for event in self.training}

    def expected_refused(self, user: str) -> list[int]:
        """Items of a user by their last refusal, without those taken in training."""
        own = [event for event in self.training if event.user == user]
        bound = self.manifest["split"].get("validation_from")
        end = int(pd.Timestamp(bound).timestamp()) if bound else own[-1].at + 1
        refused = [e.item for e in self.refusals if e.user == user and e.at < end]
        taken = {event.item for event in own}
        return [i for i in list(dict.fromkeys(reversed(refused)))[::-1] if i not in taken]


def write_log(path: Path) -> None:
    random = np.random.default_rng(11)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["user", "item", "at", "stars", "liked"])
        for row in range(ROWS):
            user, item = f"u{random.integers(USERS)}", f"i{random.integers(ITEMS):02}"
            stars, liked = random.integers(1, 6), int(random.random() < 0.6)
            writer.writerow([user, item, 1_000_000 + row, stars, liked])
        for row, bad in enumerate(("", "many", "nan")):
            writer.writerow(["u1", "i01", 2_000_000 + row, bad, bad])


def rows_of(directory: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(directory.glob("part-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            found.append(
                {
                    k: list(getattr(v, v.WhichOneof("kind")).value) if v.WhichOneof("kind") else []
                    for k, v in features.items()
                }
            )
    return found


@pytest.fixture(scope="module", params=[BY_TIME, BY_USER], ids=["by_time", "by_user"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("refusals")
    write_log(directory / "log.csv")
    sections = request.param
    document = {
        "name": "refusals",
        "work_dir": str(directory),
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
            {"name": "past", "side": "query", "kind": "sequence", "shared_with": "sku"},
        ],
        "data": {
            "interactions": {"path": str(directory / "log.csv")},
            "any_time_range": True,
            **sections["data"],
        },
        "preprocess": {"rows_per_partition": 100, "max_refused": KEPT, **sections["preprocess"]},
    }
    config = parse_config(document, DataSections, "file.yaml")
    data, printed = directory / "data", StringIO()
    manifest = preprocess(config, data, stages=Stages(Console(file=printed, width=200)))
    examples = {name: rows_of(data / "examples" / name) for name in ("train", "validation", "test")}
    return Made(
        data,
        manifest,
        printed.getvalue(),
        examples.pop("train"),
        examples,
        *account(directory / "log.csv", data, config, manifest),
    )


def account(
    log: Path, data: Path, config: DataSections, manifest: dict[str, Any]
) -> tuple[list[Event], list[Event], list[Event]]:
    """Positives, those of training, and refusals, read line by line."""
    keys = pq.read_table(data / "items" / "items.parquet")["item"].to_pylist()
    positives, refusals = [], []
    for line in list(csv.DictReader(log.read_text().splitlines()))[:ROWS]:
        event = Event(line["user"], keys.index(line["item"]) + 1, int(line["at"]))
        assert config.data.refused and config.data.refused_column
        if int(line[config.data.refused_column]) <= config.data.refused.at_most:
            refusals.append(event)
        elif config.data.min_reward is None or int(line["stars"]) >= config.data.min_reward:
            positives.append(event)
    if "validation_from" in manifest["split"]:
        bound = pd.Timestamp(manifest["split"]["validation_from"]).timestamp()
        return positives, [event for event in positives if event.at < bound], refusals
    own = defaultdict(list)
    for event in positives:
        own[event.user].append(event)
    training = [e for each in own.values() for e in (each[:-2] if len(each) > 2 else each)]
    return positives, sorted(training, key=lambda event: event.at), refusals


def test_the_log_was_divided(made: Made) -> None:
    files = sorted(str(path) for path in (made.data / "examples" / "train").iterdir())
    assert len(files) > 2
    blocks = ExampleBlocks(files, seed=1)
    assert len(blocks) == len(made.train)
    stored = tf.data.TFRecordDataset(files).as_numpy_iterator()
    assert sorted(blocks.read(0, 0, len(blocks))) == sorted(stored)


def test_rows_are_counted_once(made: Made) -> None:
    counts = made.manifest["counts"]
    assert counts["rows"] == ROWS + 3
    assert counts["refused"] == len(made.refusals) > 0
    assert counts["interactions"] == len(made.positives)
    assert counts.get("below_min_reward", 0) == ROWS - len(made.positives) - len(made.refusals)
    assert counts["train_interactions"] == len(made.training)
    assert f"{counts['refused']} of 903 rows are refusals" in made.printed


def test_bad_values_are_rejected_with_their_reason(made: Made) -> None:
    is_reward = "below_min_reward" in made.manifest["counts"]
    reason = "reward is not a number" if is_reward else "refusal is not a number"
    assert {k: v for k, v in made.manifest["rejected"].items() if v} == {reason: 3}
    written = [
        json.loads(line)
        for path in (made.data / "rejected").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert [line["reason"] for line in written] == [reason] * 3


def test_every_example_carries_the_refusals_of_its_user(made: Made) -> None:
    users = made.user_of
    whole = {user: made.expected_refused(user) for user in set(users.values())}
    for example in made.train:
        assert example["refused"] == whole[users[example["timestamp"][0]]][-KEPT:]
    assert any(len(refused) > KEPT for refused in whole.values())
    refused_and_taken = {(e.user, e.item) for e in made.refusals} & {
        (e.user, e.item) for e in made.training
    }
    assert refused_and_taken
    assert not any(item in whole[user] for user, item in refused_and_taken if user in whole)


def test_refusals_are_in_no_history_target_or_count(made: Made) -> None:
    past, had, users = defaultdict(list), defaultdict(list), made.user_of
    for event in made.positives:
        past[event.user].append(event)
    for event in made.training:
        had[event.user].append(event)
    for example in made.train:
        at = example["timestamp"][0]
        assert example["history"] == [e.item for e in had[users[at]] if e.at < at][-50:]
    for rows in made.queries.values():
        assert rows
        for query in rows:
            own = {event.item for event in past[query["user"][0].decode()]}
            assert {*query["targets"], *query["seen"], *query["history"]} <= own
            assert "refused" not in query and "user_row" not in query
    counts = pq.read_table(made.data / "item_counts.parquet").to_pydict()
    events = Counter(event.item for event in made.training)
    assert dict(zip(counts["item"], counts["events"], strict=True)) == {
        item: events[item] for item in counts["item"]
    }


def test_the_number_of_a_user_is_that_of_the_pairs(made: Made) -> None:
    table = pq.read_table(made.data / "user_items.parquet").to_pydict()
    pairs = Counter(
        dict(zip(zip(table["user"], table["item"], strict=True), table["events"], strict=True))
    )
    numbers: dict[str, int] = {}
    users = made.user_of
    for example in made.train:
        (number,), (item,) = example["user_row"], example["item"]
        assert (number, item) in pairs
        user = users[example["timestamp"][0]]
        assert numbers.setdefault(user, number) == number
    assert sorted(numbers.values()) == list(range(len(numbers)))
    assert pairs == Counter((numbers[event.user], event.item) for event in made.training)
