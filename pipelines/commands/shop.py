"""Real queries and readable titles: what a person needs to judge recommendations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from preprocessing.base.errors import LongtailError

Query = dict[str, list[Any]]


def sample_queries(data_dir: Path) -> list[Query]:
    """Raw queries of real users, as preprocessing wrote them.

    Raises:
      LongtailError: there is no preprocessed data.
    """
    path = data_dir / "sample_queries.json"
    if not path.exists():
        raise LongtailError(f"no {path}: run 'longtail preprocess CONFIG' first")
    queries: list[Query] = json.loads(path.read_text())["queries"]
    return queries


def sample_seen(data_dir: Path) -> list[list[str]]:
    """All items that the users of ``sample_queries`` had before, in their order."""
    seen: list[list[str]] = json.loads((data_dir / "sample_queries.json").read_text())["seen"]
    return seen


def titles(data_dir: Path) -> dict[str, str]:
    """The title of each item key."""
    table = pq.read_table(data_dir / "items" / "items.parquet", columns=["item", "title"])
    return dict(zip(table["item"].to_pylist(), table["title"].to_pylist(), strict=True))


def recent(history: list[str], count: int) -> list[str]:
    """The last distinct items of a history, newest first."""
    return list(dict.fromkeys(item for item in reversed(history) if item))[:count]
