"""Data of a final fit: what validation and test hold out is trained on, each example as of its instant."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from preprocessing.base.config_io import parse_config
from preprocessing.config import DataSections, SplitConfig
from preprocessing.log import examples, ingest, splits
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

A, B, C, D = 1, 2, 3, 4
LOG = {
    # Of u a train, b train, (c, a) validation, (b, d) test; v comes with the test split.
    "user": ["u", "u", "u", "u", "u", "u", "v"],
    "item": ["a", "b", "c", "a", "b", "d", "d"],
    "at": [1, 2, 5, 5, 7, 8, 8],
}
BOUNDS = (5_000_000, 7_000_000)
LAST = 8_000_000


def made(chosen: str, **split: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training rows and rows in the place of validation."""
    document = {
        "name": "held",
        "work_dir": "runs/held",
        "data": {
            "interactions": {"path": "log.csv"},
            "columns": {"user": "user", "item": "item", "timestamp": "at"},
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
            {"name": "past", "side": "query", "kind": "sequence", "shared_with": "sku"},
        ],
        "preprocess": {"examples": chosen, "split": split},
    }
    config = parse_config(document, DataSections, "file.yaml")
    items = KeyRows(pa.array(["a", "b", "c", "d"], pa.large_string()))
    rows = Rows.following(pa.RecordBatch.from_pydict(LOG), "log.csv")
    done = ingest.canonical(rows, config, items, RowOutcomes("log"))
    bounds = BOUNDS if config.preprocess.split.method == "global_time" else None
    rules = examples.Rules.of(config.preprocess.split, bounds, LAST)
    part = examples.sort_and_split(pa.Table.from_batches([done]), config, rules)
    users = examples.Users(None, config)
    train = examples.training_batch(part, users, config, rules, 0).to_pylist()
    queries = examples.query_batch(part, users, config, splits.VALIDATION, 0).to_pylist()
    assert not examples.query_batch(part, users, config, splits.TEST, 0).num_rows
    return train, queries


def test_what_is_held_out_is_trained_on_with_the_history_as_of_each_instant() -> None:
    train, queries = made("all", held_out="train")
    assert [
        (row["who"][0], row["item"][0], row["history"], row["held_out"][0]) for row in train
    ] == [
        (b"u", A, [], 0),
        (b"u", B, [A], 0),
        (b"u", C, [A, B], 1),  # one basket does not see itself
        (b"u", A, [A, B], 1),
        (b"u", B, [A, B, C, A], 1),
        (b"u", D, [A, B, C, A, B], 1),
        (b"v", D, [], 1),
    ]
    # Queries are as of now: everything is past, nothing is a target.
    assert [(row["user"][0], row["history"], row["targets"]) for row in queries] == [
        (b"u", [A, B, C, A, B, D], []),
        (b"v", [D], []),
    ]
    assert queries[0]["seen"] == [A, B, C, D] and queries[0]["seen_counts"] == [2, 2, 1, 1]


def test_the_first_of_a_pair_is_the_first_of_the_whole_log() -> None:
    train, _ = made("first", held_out="train")
    assert [(row["item"][0], row["held_out"][0]) for row in train] == [
        (A, 0),
        (B, 0),
        (C, 1),
        (D, 1),
        (D, 1),
    ]


def test_without_a_boundary_in_time_each_users_last_ones_are_marked() -> None:
    train, _ = made("all", held_out="train", method="leave_one_out")
    assert [row["held_out"][0] for row in train] == [0, 0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize("held_out", ["evaluate", "train"])
def test_the_manifest_says_until_when(held_out: Any) -> None:
    said = splits.describe(BOUNDS, SplitConfig(held_out=held_out), LAST)
    boundaries = {
        "validation_from": "1970-01-01T00:00:05",
        "test_from": "1970-01-01T00:00:07",
    }
    # Without a boundary no later day can take what a final fit learned for a model to be judged.
    expected = boundaries if held_out == "evaluate" else {}
    assert said == {**expected, "until": "1970-01-01T00:00:08"}
