"""`min_item_count` and `min_user_count` count training interactions alone, and thin training alone."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from preprocessing.base.config_io import parse_config
from preprocessing.config import DataSections
from preprocessing.log import dropped_items, examples, splits
from preprocessing.run import preprocess
from tests.preprocessing.interactions import make_config, partition

MINIMA = {"min_item_count": 2, "min_user_count": 2}
# Validation begins at second 10, test at 20. Items 1 to 4 have 3, 2, 1 and 0 training events. Without items 3 and 4,
# user a has 3 training events, b 2 and c none of the two that it had: c's event with item 1 is one too few.
LOG = [
    ("a", 1, 1), ("a", 2, 2), ("a", 1, 3), ("b", 2, 1), ("b", 4, 11), ("c", 1, 4), ("c", 3, 5),
    ("b", 1, 6), ("c", 2, 12), ("a", 3, 13), ("c", 1, 21), ("c", 3, 22), ("d", 2, 23), ("b", 3, 24),
]  # fmt: skip
LATER = [("c", 3, 25), ("d", 3, 26), ("e", 3, 27), ("e", 4, 28), ("d", 4, 29), ("c", 1, 30)]


def parts_of(
    tmp_path: Path, config: DataSections, log: Iterable[tuple[Any, ...]]
) -> tuple[examples.Partition, examples.Rules]:
    """The log as one partition, thinned by the counts of its training interactions."""
    bounds = (10_000_000, 20_000_000) if config.preprocess.split.method == "global_time" else None
    ends = (*(bounds or (40_000_000,) * 2), 40_000_000)
    rules, table = examples.Rules(bounds, ends), partition(log)
    part = examples.divide(table, config, rules)
    counts = np.bincount(part.item[part.split == splits.TRAIN], minlength=5)
    path = str(tmp_path / f"dropped-{len(table)}-{config.preprocess.split.method}")
    dropped_items.write(path, counts < config.preprocess.min_item_count)
    rules = examples.Rules(bounds, ends, path)
    return examples.sort_and_split(table, config, rules), rules


def test_training_is_thinned_by_its_own_counts(tmp_path: Path) -> None:
    config = make_config(**MINIMA)
    part, rules = parts_of(tmp_path, config, LOG)
    rows = examples.training_batch(part, examples.Users(None, config), config, rules, 0).to_pylist()
    assert [(r["who"], r["item"], r["history"]) for r in rows] == [
        ([b"a"], [1], []),
        ([b"a"], [2], [1]),
        ([b"a"], [1], [1, 2]),
        ([b"b"], [2], []),
        ([b"b"], [1], [2]),
    ]
    assert (part.split == splits.DROPPED).sum() == 2  # both of c


def test_what_is_held_out_stays_and_knows_what_happened(tmp_path: Path) -> None:
    config = make_config(**MINIMA)
    part, _ = parts_of(tmp_path, config, LOG)
    users = examples.Users(None, config)
    found = {
        split: [
            (
                r["user"][0].decode(),
                r["targets"],
                r["history"],
                dict(zip(r["seen"], r["seen_counts"], strict=True)),
            )
            for r in examples.query_batch(part, users, config, split, 0).to_pylist()
        ]
        for split in (splits.VALIDATION, splits.TEST)
    }
    assert found[splits.VALIDATION] == [
        ("a", [3], [1, 2, 1], {1: 2, 2: 1}),
        ("b", [4], [2, 1], {2: 1, 1: 1}),
        ("c", [2], [1, 3], {1: 1, 3: 1}),
    ]
    # What c had in training is no new target of c, though c does not train.
    assert found[splits.TEST] == [
        ("b", [3], [2, 1, 4], {2: 1, 1: 1, 4: 1}),
        ("c", [1, 3], [1, 3, 2], {1: 1, 3: 1, 2: 1}),
        ("d", [2], [], {}),
    ]


@pytest.mark.parametrize("method", ["global_time", "column", "leave_one_out"])
def test_later_events_train_nothing_and_nobody(method: str, tmp_path: Path) -> None:
    config = make_config(**MINIMA, split={"method": method})

    def name(at: int) -> str:
        return "train" if at < 10 else "validation" if at < 20 else "test"

    log, later = ([(*e, name(e[2])) for e in part] for part in (LOG, LATER))
    if method == "leave_one_out":
        # The last two of each user are held out: other events of the same users, in their place, change nothing.
        last = {u: sorted(e[2] for e in log if e[0] == u)[-2:] for u in "abcd"}
        later = [(u, 4, at) for u, _, at, _ in log if at in last[u] and u in "abc"]
        log = [e[:3] for e in log if e[0] in "abc"]
        both = [e for e in log if e[2] not in last[e[0]]] + later
    else:
        both = log + later

    def trains(events: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
        part, rules = parts_of(tmp_path, config, events)
        users = examples.Users(None, config)
        rows = examples.training_batch(part, users, config, rules, 0).to_pylist()
        assert rows
        return rows

    assert trains(log) == trains(both)


@pytest.mark.slow
def test_events_after_the_split_change_no_file_of_training(tmp_path: Path) -> None:
    made = {}
    for name, log in (("before", LOG), ("after", LOG + LATER)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([("user", "item", "at"), *log])
        (tmp_path / "items.csv").write_text("item\n1\n2\n3\n4\n")
        plain = make_config(**MINIMA).model_dump(exclude_defaults=True, mode="json")
        plain["data"]["interactions"]["path"] = str(tmp_path / f"{name}.csv")
        plain["data"]["items"] = {"path": str(tmp_path / "items.csv")}
        plain["data"]["any_time_range"] = True
        instants = {"validation_from": "1970-01-01T00:00:10", "test_from": "1970-01-01T00:00:20"}
        plain["preprocess"] |= {"split": instants, "rows_per_partition": 5}
        config = parse_config(plain, DataSections, "file.yaml")
        made[name] = (tmp_path / name, preprocess(config, tmp_path / name)["counts"])
    (one, counts), (two, more) = made.values()
    assert counts["train_examples"] == more["train_examples"] == 5
    assert counts["dropped_interactions"] == more["dropped_interactions"] == 2
    assert counts["interactions"] == sum(
        counts[f"{each}_interactions"] for each in ("train", "validation", "test", "dropped")
    )
    columns = ["item", "events", "examples", "recent_validation"]
    tables = [pq.read_table(d / "item_counts.parquet", columns=columns) for d in (one, two)]
    assert tables[0]["events"].to_pylist() == [3, 2, 0, 0]
    assert tables[0].equals(tables[1])
    for side, name in (("query", "who"), ("item", "sku")):
        first, second = (
            tft.TFTransformOutput(str(d / "transform_graph" / side)).vocabulary_by_name(name)
            for d in (one, two)
        )
        assert first == second
    assert training_records(one) == training_records(two)


def training_records(data: Path) -> list[str]:
    """Every field but the user's number, which goes by partitions."""
    files = sorted(str(path) for path in (data / "examples" / "train").glob("part-*"))
    records = (
        tf.train.Example.FromString(record).features.feature
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
    )
    return sorted(
        str({name: str(record[name]) for name in sorted(record) if name != "user_row"})
        for record in records
    )
