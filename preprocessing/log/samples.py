"""Raw queries and raw items in the form of serving requests: for warm-up, for checks of an export and for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.beam.shuffle import Group, read_pieces
from preprocessing.config import DataSections
from preprocessing.features import Feature, FeatureList, Kind, Side
from preprocessing.log import examples, splits
from preprocessing.sources import key_tables as catalogue

MAX_QUERIES = 100
_ITEMS_EACH = 16
"""Of the head, of the torso, of the tail and of the items without events."""


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


def write_items(
    path: Path, items: pa.Table, events: NDArray[np.int64], features: FeatureList
) -> None:
    """Raw features of items from all over the catalogue, with their rows.

    Args:
      path: of the file.
      items: the catalogue: raw features, in the order of rows.
      events: [N] training events of each.
      features: all features.
    """
    known, order = int((events > 0).sum()), np.argsort(-events, kind="stable")
    parts = [
        order[:_ITEMS_EACH],
        order[_some(min(_ITEMS_EACH, known), known)],
        order[max(known - _ITEMS_EACH, 0) : known],
        order[_some(known, len(order))],
    ]
    rows = np.unique(np.concatenate(parts))
    own = features.item_columns
    names = [name for f in own for name in filter(None, (f.name, f.weights_name))]
    chosen = items.select(names).take(pa.array(rows)).to_pylist()
    found = [
        {name: value for feature in own for name, value in _values(feature, item).items()}
        for item in chosen
    ]
    path.write_text(json.dumps({"rows": (rows + 1).tolist(), "items": found}) + "\n")


def _some(start: int, stop: int) -> NDArray[np.int64]:
    """Places spread over a range."""
    return np.unique(np.linspace(start, stop - 1, _ITEMS_EACH if stop > start else 0).astype(int))


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
            query |= _values(feature, {name: column[row] for name, column in columns.items()})
        rows = np.asarray(columns["history"][row], np.int64) - 1
        query["history"] = [keys[int(at)].as_py() for at in rows] or [""]
        query["seen"] = [keys[at - 1].as_py() for at in columns["seen"][row]]
        found.append(query)
    return found


def _values(feature: Feature, row: dict[str, Any]) -> dict[str, list[Any]]:
    """What a request sends of a feature, and its weights."""
    # A number that is sent is a number: only an empty list says that there is none.
    missing: list[Any] = [] if feature.kind is Kind.NUMERIC else [""]
    sent = {feature.name: [_text(value) for value in row[feature.name] or []] or missing}
    if feature.weights_name:
        sent[feature.weights_name] = row[feature.weights_name] or [0.0]
    return sent


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
