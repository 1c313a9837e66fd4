"""What is known of the users of a partition."""

from __future__ import annotations

import pyarrow as pa
import pytest

from preprocessing.base.config_io import parse_config
from preprocessing.config import DataSections
from preprocessing.log import examples, ingest
from preprocessing.sources.columns import arrow_schema
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.row_outcomes import LOG, RowOutcomes, Rows

DOCUMENT = {
    "name": "users",
    "work_dir": "runs/users",
    "data": {
        "interactions": {"path": "log.csv"},
        "users": {"path": "users.csv"},
        "columns": {"user": "user", "item": "item", "timestamp": "at"},
    },
    "features": [
        {"name": "who", "side": "query", "kind": "id", "column": "user"},
        {"name": "age", "side": "query", "kind": "numeric"},
        {"name": "likes", "side": "query", "kind": "multi", "weights_column": "much"},
        {"name": "sku", "side": "item", "kind": "id", "column": "item"},
    ],
}


@pytest.mark.parametrize("known", [["a"], ["z"], []])
def test_who_is_not_in_the_table_has_no_values(known: list[str]) -> None:
    """Also where nobody of a partition is: small partitions, a table of few users."""
    config = parse_config(DOCUMENT, DataSections, "file.yaml")
    log = {"user": ["a", "b"], "item": ["i", "i"], "at": [1, 2]}
    batch = pa.RecordBatch.from_pydict(log)
    items = KeyRows(pa.array(["i"], pa.large_string()))
    rows = Rows.following(batch, "log.csv")
    done = ingest.canonical(rows, config, items, RowOutcomes(LOG))
    five, six = 5_000_000, 6_000_000
    rules = examples.Rules((five, six), (five, six, six))
    part = examples.sort_and_split(pa.Table.from_batches([done]), config, rules)
    types = arrow_schema(config.feature_list.query_columns)
    stored = {"user": pa.array(known, pa.large_string())}
    for field in types:
        value = 7.0 if field.type.value_type == pa.float32() else b"x"
        stored[field.name] = pa.array([[value]] * len(known), field.type)
    users = examples.Users(pa.table(stored) if known else None, config)
    made = examples.training_batch(part, users, config, rules, 0).to_pylist()
    assert [row["who"] for row in made] == [[b"a"], [b"b"]]
    assert [row["age"] for row in made] == [[7.0] if "a" in known else [], []]
    assert [row["likes"] for row in made] == [[b"x"] if "a" in known else [], []]
    assert [row["likes_weights"] for row in made] == [[7.0] if "a" in known else [], []]
