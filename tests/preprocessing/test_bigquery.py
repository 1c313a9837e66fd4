"""BigQuery without an account: what tells new rows of a table."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from preprocessing import bigquery
from preprocessing.config import DataSections
from preprocessing.config_io import parse_config
from preprocessing.errors import LongtailError
from preprocessing.run import data_fingerprint

TABLE = "project.shop.orders"


class Client:
    """Knows one table."""

    def __init__(self) -> None:
        modified = datetime(2024, 5, 1, tzinfo=timezone.utc)
        self.table = SimpleNamespace(num_rows=3, modified=modified, schema=[])

    def get_table(self, name: str) -> Any:
        if name != TABLE:
            raise ValueError("404 Not found")
        return self.table


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    known = Client()
    monkeypatch.setattr(bigquery, "_client", lambda: known)
    return known


def config(table: str, directory: Path) -> DataSections:
    document = {
        "name": "shop",
        "work_dir": str(directory),
        "data": {
            "interactions": {"path": table, "format": "bigquery"},
            "columns": {"user": "who", "item": "sku", "timestamp": "at"},
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "dim": 4},
            {"name": "sku", "side": "item", "kind": "id", "dim": 4},
        ],
    }
    return parse_config(document, DataSections, "test")


def test_a_table_that_grew_is_not_current(client: Client, tmp_path: Path) -> None:
    wanted = config(TABLE, tmp_path)
    before = data_fingerprint(wanted)
    assert data_fingerprint(wanted) == before
    client.table.modified = datetime(2024, 5, 2, tzinfo=timezone.utc)
    assert data_fingerprint(wanted) != before


def test_a_table_that_is_not_there_is_one_line(client: Client, tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match=r"cannot read the BigQuery table other\.t\.x: 404"):
        data_fingerprint(config("other.t.x", tmp_path))
