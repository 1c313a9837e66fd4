"""What became of each row: one outcome each, counts that add up, lists that do not depend on the way rows fall."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.config import DataSections
from preprocessing.features import Side
from preprocessing.sources import key_tables as catalogue
from preprocessing.sources.row_outcomes import ITEMS, LISTED, LOG, RowOutcomes, Rows, readable
from preprocessing.sources.row_report import FOLDERS, report

LINES = np.array([2, 3, 5, 6])


def mask(*at: int, of: int = 4) -> np.ndarray[Any, Any]:
    return np.isin(np.arange(of), at)


def four_rows() -> Rows:
    batch = pa.RecordBatch.from_pydict({"a": ["w", "x", "y", "z"]})
    return Rows(batch, "log.csv", 3, LINES - 2, LINES)


def test_each_row_has_one_outcome_and_the_first_reason_counts() -> None:
    outcomes = RowOutcomes(LOG)
    kept = outcomes.settle(
        four_rows(),
        {"no user": mask(1), "no item": mask(1, 2)},
        {"below": mask(0, 1)},
        {"cut": mask(0, 3), "short": mask(3)},
    )
    # Row 0 is set aside, 1 and 2 are rejected (1 for its user), 3 is kept and noted twice.
    assert kept.tolist() == [False, False, False, True]
    outcomes.check()
    assert outcomes.summary() == {
        "rows": 4, "kept": 1, "set_aside": {"below": 1},
        "rejected": {"no item": 1, "no user": 1}, "noted": {"cut": 1, "short": 1},
    }  # fmt: skip
    assert outcomes.entries("rejected") == [
        {"reason": "no user", "source": "log.csv", "row": 2, "line": 3, "values": {"a": "x"}},
        {"reason": "no item", "source": "log.csv", "row": 4, "line": 5, "values": {"a": "y"}},
    ]
    assert [(e["reason"], e["line"]) for e in outcomes.entries("noted")] == [
        ("cut", 6),
        ("short", 6),
    ]


def test_lists_keep_the_first_rows_in_whatever_order_parts_arrive() -> None:
    def part(ordinal: int) -> RowOutcomes:
        outcomes = RowOutcomes(LOG)
        rows = Rows.following(pa.RecordBatch.from_pydict({"a": list(range(700))}), "f", ordinal)
        outcomes.settle(rows, {"bad": mask(*range(700), of=700)})
        return outcomes

    listed = [
        RowOutcomes(LOG).merge(part(a)).merge(part(b)).entries("rejected")
        for a, b in ((0, 1), (1, 0))
    ]
    assert listed[0] == listed[1]
    assert len(listed[0]) == LISTED
    assert [e["values"]["a"] for e in listed[0]] == [*range(700), *range(LISTED - 700)]
    assert part(0).merge(part(1)).rejected == {"bad": 1_400}


def test_counts_that_do_not_add_up_are_a_fault() -> None:
    with pytest.raises(LongtailFailure, match="log: 5 rows were read, but 3 kept and 1 left out"):
        RowOutcomes(LOG, rows=5, kept=3, rejected=Counter(bad=1)).check()


def test_values_are_listed_short_and_whatever_they_are() -> None:
    beyond = pa.array([2**62], pa.timestamp("us"))  # the year 148000, which Python has not
    batch = pa.RecordBatch.from_arrays(
        [beyond, pa.array([b"\xff" + b"x" * 999]), pa.array([datetime(2024, 5, 1)])],
        ["t", "b", "d"],
    )
    (row,) = readable(batch, np.array([0]))
    assert row == {"t": str(2**62), "b": "\ufffd" + "x" * 299, "d": "2024-05-01 00:00:00"}


def config() -> DataSections:
    document = {
        "name": "n",
        "work_dir": "runs/n",
        "data": {
            "interactions": {"path": "log.csv"},
            "items": {"path": "items.csv"},
            "columns": {"user": "user", "item": "item", "timestamp": "at"},
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "item_id", "side": "item", "kind": "id", "column": "item"},
        ],
    }
    return parse_config(document, DataSections, "file.yaml")


def test_keys_of_a_catalogue_that_are_missing_or_repeated_are_found_at_their_place() -> None:
    """Over two files: of a repeated key the first row stays, and the place is that in its own file."""
    sections, outcomes = config(), RowOutcomes(ITEMS)
    parts = []
    for ordinal, keys in enumerate((["a", None, "b"], ["c", "b", "", "a"])):
        batch = pa.RecordBatch.from_pydict({"item": keys})
        rows = Rows.following(batch, f"items-{ordinal}", ordinal)
        parts.append(
            catalogue.canonical(rows, sections.data, Side.ITEM, sections.feature_list, outcomes)
        )
    table = pa.Table.from_batches(parts)
    catalogue.withdraw_repeated(table, "item", {0: "items-0", 1: "items-1"}, outcomes)
    outcomes.check()
    assert catalogue.distinct(table, "item")["item"].to_pylist() == ["a", "b", "c"]
    assert outcomes.summary() == {
        "rows": 7, "kept": 3, "set_aside": {}, "noted": {},
        "rejected": {"missing item": 2, "repeated item": 2},
    }  # fmt: skip
    assert [(e["reason"], e["source"], e["row"]) for e in outcomes.entries("rejected")] == [
        ("missing item", "items-0", 2),
        ("repeated item", "items-1", 2),
        ("missing item", "items-1", 3),
        ("repeated item", "items-1", 4),
    ]


def test_the_limit_counts_a_source_by_itself_and_names_it(tmp_path: Path) -> None:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    outcomes = RowOutcomes(ITEMS)
    outcomes.settle(four_rows(), {"no key": mask(2)}, noted={"cut": mask(0)})
    report(outcomes, "items.csv", tmp_path, 0.25, Console(quiet=True))
    assert '"line": 5' in (tmp_path / "rejected" / "items.jsonl").read_text()
    assert '"line": 2' in (tmp_path / "noted" / "items.jsonl").read_text()
    with pytest.raises(
        LongtailError, match=r"rejected 1 of 4 rows of the items items\.csv \(1 no key\).*line.*5"
    ):
        report(outcomes, "items.csv", tmp_path, 0.2, Console(quiet=True))
    with pytest.raises(LongtailError, match=r"items\.csv holds no rows"):
        report(RowOutcomes(ITEMS), "items.csv", tmp_path, 1.0, Console(quiet=True))


def test_a_listed_row_shows_what_python_has_no_value_for() -> None:
    raw = pa.array([b"a\xff", b"b", None])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())  # as Parquet may hold it
    columns = {
        "text": text,
        "list": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), text),
        "day": pa.array([2**30, 0, None], pa.int32()).view(pa.date32()),
        "instant": pa.array([2**60, 0, None]).view(pa.timestamp("s")),
        "zone": pa.array([5, 0, None]).view(pa.timestamp("s", "Mars/Olympus")),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    first, second, third = readable(batch, np.arange(3))
    assert first == {
        "text": "a\ufffd",
        "list": "a value of type list<item: string> that cannot be shown",
        "day": str(2**30),
        "instant": str(2**60),
        "zone": "5",
    }
    assert second["text"] == "b" and second["list"] == ["b"] and second["zone"] == "0"
    assert third["text"] is None and third["day"] is None and third["zone"] is None
