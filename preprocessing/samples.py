"""Raw queries of real users, in the form of a serving request: for warm-up, for checks of an export and for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing import catalogue, examples, splits
from preprocessing.config import DataSections
from preprocessing.features import Kind, Side
from preprocessing.shuffle import Group, read_pieces

MAX_QUERIES = 100


def write(
    path: Path,
    groups: list[Group],
    rules: examples.Rules,
    config: DataSections,
    item_ids: pa.ChunkedArray,
) -> None:
    """Up to ``MAX_QUERIES`` queries of the validation split (of the test split where it has none)."""
    queries: list[dict[str, Any]] = []
    for split in (splits.VALIDATION, splits.TEST):
        for number, log, users in groups:
            if len(queries) >= MAX_QUERIES:
                break
            queries += _of_partition((number, log, users), rules, config, item_ids, split)
        if queries:
            break
    seen = [query.pop("seen") for query in queries]
    content = {"queries": queries[:MAX_QUERIES], "seen": seen[:MAX_QUERIES]}
    path.write_text(json.dumps(content) + "\n")


def _of_partition(
    group: Group, rules: examples.Rules, config: DataSections, item_ids: pa.ChunkedArray, split: int
) -> list[dict[str, Any]]:
    table, known = read_pieces(group[1]), read_pieces(group[2])
    assert table is not None
    if known is not None:
        known = catalogue.distinct(known, catalogue.KEY[Side.QUERY])
    part = examples.sort_and_split(table, config, rules)
    batch = examples.query_batch(part, examples.Users(known, config), config, split, group[0])
    batch = batch.slice(0, MAX_QUERIES)
    columns = {name: batch.column(i).to_pylist() for i, name in enumerate(batch.schema.names)}
    keys = item_ids.combine_chunks()
    found = []
    for row in range(batch.num_rows):
        query: dict[str, Any] = {}
        for feature in config.feature_list.query_columns:
            values = columns[feature.name][row]
            # A number that is sent is a number: only an empty list says that there is none.
            missing: list[Any] = [] if feature.kind is Kind.NUMERIC else [""]
            query[feature.name] = [_text(v) for v in values] or missing
            if feature.weights_name:
                query[feature.weights_name] = columns[feature.weights_name][row] or [0.0]
        rows = np.asarray(columns["history"][row], np.int64) - 1
        query["history"] = [keys[int(at)].as_py() for at in rows] or [""]
        query["seen"] = [keys[at - 1].as_py() for at in columns["seen"][row]]
        found.append(query)
    return found


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
