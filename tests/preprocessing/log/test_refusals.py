"""Refusals: which rows they are, which of them a user's examples carry, and what is said of a wrong configuration."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections
from preprocessing.log import examples, ingest
from preprocessing.log.joins import pairs
from preprocessing.log.refusals import Refusals, newest
from preprocessing.run import preprocess
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

LOG = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 6), st.booleans()), max_size=40
)


def make_config(**data: Any) -> DataSections:
    columns = {"user": "user", "item": "item", "timestamp": "at", "reward": "stars"}
    has_split = "split" in data.get("columns", columns)
    document = {
        "name": "refusals",
        "work_dir": "runs/refusals",
        "data": {"interactions": {"path": "log.csv"}, "columns": columns, **data},
        "preprocess": {"split": {"method": "column" if has_split else "global_time"}},
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
            {"name": "past", "side": "query", "kind": "sequence", "shared_with": "sku"},
        ],
    }
    return parse_config(document, DataSections, "file.yaml")


def ingested(config: DataSections, **columns: list[Any]) -> tuple[pa.RecordBatch, RowOutcomes]:
    rows = len(next(iter(columns.values())))
    base: dict[str, list[Any]] = {
        "user": ["u"] * rows,
        "item": ["a"] * rows,
        "at": list(range(rows)),
        "stars": [5] * rows,
    }
    given = Rows.following(pa.RecordBatch.from_pydict(base | columns), "log.csv")
    items = KeyRows(pa.array(["a", "b"], pa.large_string()))
    outcomes = RowOutcomes("log")
    done = ingest.canonical(given, config, items, outcomes)
    outcomes.check()
    return done, outcomes


def refused(done: pa.RecordBatch) -> list[bool]:
    return done.to_pydict()["refused"]


@pytest.mark.parametrize("by_time", [True, False])
@given(log=LOG, limit=st.integers(1, 3))
def test_the_newest_refusals_of_the_training_period_without_what_was_taken(
    by_time: bool, log: list[tuple[int, int, int, bool]], limit: int
) -> None:
    rows = sorted(log, key=lambda row: row[:2])
    taken = [row for row in rows if not row[3] and (row[1] < 6 or not by_time)]
    apart = [row for row in rows if row[3]]
    user, time, item = (np.array([row[i] for row in taken], np.int64) for i in range(3))
    refused = Refusals(*(np.array([row[i] for row in apart], np.int64) for i in (0, 2, 1)))
    offsets, lists = newest(refused, user, item, time, 6 if by_time else None, limit)
    users = sorted({row[0] for row in taken})
    assert len(offsets) == len(users) + 1
    for number, who in enumerate(users):
        until = 5 if by_time else max(row[1] for row in taken if row[0] == who)
        had = {row[2] for row in taken if row[0] == who}
        own = [row[2] for row in apart if row[0] == who and row[1] <= until and row[2] not in had]
        expected = list(dict.fromkeys(reversed(own)))[:limit][::-1]
        assert lists[offsets[number] : offsets[number + 1]].tolist() == expected


def test_low_values_are_set_apart_and_the_ones_between_dropped() -> None:
    config = make_config(min_reward=4, refused={"at_most": 2})
    done, outcomes = ingested(config, stars=[1, 2, 3, 4, 5])
    assert (outcomes.set_aside, outcomes.rejected) == ({"below_min_reward": 1}, {})
    assert refused(done) == [True, True, False, False]
    assert done.to_pydict()["time"] == [0, 1_000_000, 3_000_000, 4_000_000]


def test_a_column_of_its_own_decides_before_the_reward() -> None:
    config = make_config(min_reward=4, refused={"column": "liked", "at_most": 0})
    assert "liked" in ingest.source_columns(config)
    done, outcomes = ingested(config, stars=[5, 1, 5, 1], liked=[False, False, True, True])
    assert outcomes.set_aside == {"below_min_reward": 1}
    assert refused(done) == [True, True, False]


@pytest.mark.parametrize("liked", ["", "no", "nan", "-inf", None])
def test_a_value_that_is_no_number_is_rejected(liked: str | None) -> None:
    config = make_config(refused={"column": "liked", "at_most": 0})
    done, outcomes = ingested(config, liked=["1", liked, "0"])
    assert [(row["reason"], row["row"]) for row in outcomes.entries("rejected")] == [
        ("refusal is not a number", 2)
    ]
    assert refused(done) == [False, True]


def test_of_the_reward_itself_one_reason_is_given() -> None:
    _, outcomes = ingested(make_config(refused={"at_most": 2}), stars=["2", "many", "5"])
    assert outcomes.rejected == {"reward is not a number": 1}


def test_without_the_setting_nothing_is_refused() -> None:
    done, outcomes = ingested(make_config(min_reward=4), stars=[1, 4])
    assert (refused(done), outcomes.set_aside) == ([False], {"below_min_reward": 1})
    assert examples.unused_fields(make_config()) == {"refused", "held_out"}
    assert examples.unused_fields(make_config(refused={"at_most": 0})) == {"held_out"}


def test_a_refusal_needs_no_split_of_its_own() -> None:
    columns = {"user": "user", "item": "item", "timestamp": "at", "split": "part"}
    config = make_config(columns=columns, refused={"column": "stars", "at_most": 2})
    done, outcomes = ingested(config, stars=[1, 5, 5], part=["", "train", ""])
    assert [(row["reason"], row["row"]) for row in outcomes.entries("rejected")] == [
        ("unknown split", 3)
    ]
    assert refused(done) == [True, False]


def test_a_partition_of_refusals_alone_gives_no_rows() -> None:
    config = make_config(refused={"at_most": 2})
    table = pa.Table.from_batches([ingested(config, stars=[1, 2])[0]])
    rules = examples.Rules((5, 6), (5, 6, 7), end_of_training=5)
    part = examples.sort_and_split(table, config, rules)
    users = examples.Users(None, config)
    assert len(part.refusals.item) == 2
    assert examples.training_batch(part, users, config, rules, 0).num_rows == 0
    assert examples.query_batch(part, users, config, 1, 0).num_rows == 0


def test_users_are_numbered_through_the_partitions(tmp_path: Path) -> None:
    for number, users in ((2, [0, 1, 1]), (7, []), (11, [0])):
        part = pa.table({"user": pa.array(users, pa.int64()), "item": pa.array(users, pa.int64())})
        pq.write_table(part, tmp_path / f"part-{number:05d}.parquet")
    assert pairs(tmp_path, tmp_path / "all.parquet") == {2: 0, 7: 2, 11: 2}
    assert pq.read_table(tmp_path / "all.parquet")["user"].to_pylist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"min_reward": 4, "refused": {"at_most": 4}}, "below min_reward=4, .* received 4: "),
        (
            {"min_reward": 1, "refused": {"column": "stars", "at_most": 2}},
            "below min_reward=1, .* received 2: ",
        ),
        (
            {
                "columns": {"user": "user", "item": "item", "timestamp": "at"},
                "refused": {"at_most": 2},
            },
            r"column of refusals is missing: .* refused\.column or columns\.reward",
        ),
        ({"refused": {"column": "liked"}}, r"data\.refused\.at_most"),
        ({"refused": {"at_most": float("nan")}}, r"data\.refused\.at_most"),
        ({"refused": {"atmost": 2}}, r"data\.refused\.atmost: unknown key"),
    ],
)
def test_impossible_settings_are_explained(data: dict[str, Any], words: str) -> None:
    with pytest.raises(LongtailError, match=words):
        make_config(**data)


def test_bounds_of_different_columns_do_not_meet() -> None:
    make_config(min_reward=1, refused={"column": "liked", "at_most": 2})


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,at,stars,likes\nu,a,1,5,1\n")
    config = make_config(
        interactions={"path": str(path)}, refused={"column": "liked", "at_most": 0}
    )
    with pytest.raises(
        LongtailError,
        match="expected column 'liked', received user, item, at, stars, likes; did you mean 'likes'",
    ):
        preprocess(config, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_lists_of_one_user_do_not_run_into_the_next() -> None:
    refused = Refusals(np.array([1, 1, 2, 3]), np.array([5, 6, 7, 8]), np.array([1, 2, 1, 1]))
    offsets, lists = newest(
        refused, np.array([1, 3]), np.array([9, 9]), np.array([4, 4]), None, limit=1
    )
    assert [lists[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [[6], [8]]
