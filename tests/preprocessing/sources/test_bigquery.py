"""BigQuery without an account: Google's own client, with a session that answers in place of the network."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections, TableConfig
from preprocessing.run import data_fingerprint
from preprocessing.sources import bigquery_reader as bigquery
from preprocessing.sources.readers import plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes

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


class Session:
    """What Google's own client reaches over the network: one table, or one view."""

    def __init__(self, **more: Any) -> None:
        fields = [("who", "STRING"), ("sku", "INTEGER"), ("at", "TIMESTAMP"), ("note", "STRING")]
        schema = {"fields": [{"name": n, "type": t, "mode": "NULLABLE"} for n, t in fields]}
        reference = {"projectId": "project", "datasetId": "shop", "tableId": "orders"}
        self.table = {
            "tableReference": reference, "schema": schema, "lastModifiedTime": "1714521600000",
            "numRows": "3", "type": "TABLE", **more,
        }  # fmt: skip
        rows = [("a", "7", "1714521600000000"), (None, "8", "1714521600000001"), ("b", None, None)]
        self.rows = [{"f": [{"v": v} for v in row]} for row in rows]
        self.is_mtls = False

    def request(self, method: str, url: str, **_: Any) -> requests.Response:
        first = "pageToken" not in url
        page = {"rows": self.rows[:2], "pageToken": "2"} if first else {"rows": self.rows[2:]}
        is_rows = url.partition("?")[0].endswith("/data")
        found = {"totalRows": "3", **page} if is_rows else self.table
        response = requests.Response()
        response.status_code, response._content = 200, json.dumps(found).encode()
        response.headers["content-type"] = "application/json"
        return response


def connect(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    google = pytest.importorskip("google.cloud.bigquery")
    credentials = pytest.importorskip("google.auth.credentials").AnonymousCredentials()
    client = google.Client("project", credentials=credentials, _http=session)
    monkeypatch.setattr(bigquery, "_client", lambda: client)


def test_a_table_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Session())
    table, columns = TableConfig(path=TABLE, format="bigquery"), ["at", "who", "sku"]
    units, rows = plan(table, columns)
    assert (len(units), rows) == (1, 3)
    read = list(read_unit(units[0], columns, 100, RowOutcomes(LOG)))
    assert [number for each in read for number in each.numbers.tolist()] == [0, 1, 2]
    values = [row for each in read for row in each.batch.to_pylist()]
    assert [(row["who"], row["sku"]) for row in values] == [("a", 7), (None, 8), ("b", None)]
    assert [row["at"] and row["at"].timestamp() for row in values] == [
        1714521600.0,
        1714521600.000001,
        None,
    ]
    with pytest.raises(LongtailError, match=r"expected column 'wo', .*did you mean 'who'"):
        plan(table, ["wo"])


def test_a_view_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, Session(type="VIEW", numRows=None))
    with pytest.raises(LongtailError, match="expected a table, received VIEW"):
        plan(TableConfig(path=TABLE, format="bigquery"), ["who"])
