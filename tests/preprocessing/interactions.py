"""Checked interactions and a configuration for them, without a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from preprocessing.base.config_io import parse_config
from preprocessing.config import DataSections

SPLITS = ("train", "validation", "test")


def make_config(**preprocess: Any) -> DataSections:
    """A log of users, items and times, with histories of items; the split is a column's if asked for."""
    columns = {"user": "user", "item": "item", "timestamp": "at"}
    if preprocess.get("split", {}).get("method") == "column":
        columns["split"] = "part"
    document = {
        "name": "small",
        "work_dir": "runs/small",
        "data": {"interactions": {"path": "log.csv"}, "columns": columns},
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
            {"name": "past", "side": "query", "kind": "sequence", "shared_with": "sku"},
        ],
        "preprocess": preprocess,
    }
    return parse_config(document, DataSections, "file.yaml")


def partition(events: Iterable[tuple[Any, ...]]) -> pa.Table:
    """Events (user, item row, second[, split]) as `ingest.canonical` gives them, in this order."""
    rows = list(events)
    given = [SPLITS.index(row[3]) if len(row) > 3 else -1 for row in rows]
    return pa.table(
        {
            "user": pa.array([row[0] for row in rows], pa.large_string()),
            "item": pa.array([row[1] for row in rows], pa.int32()),
            "time": pa.array([row[2] * 1_000_000 for row in rows], pa.int64()),
            "reward": pa.array([1.0] * len(rows), pa.float32()),
            "order": pa.array(range(len(rows)), pa.int64()),
            "split": pa.array(given, pa.int8()),
            "refused": pa.array([False] * len(rows)),
        }
    )
