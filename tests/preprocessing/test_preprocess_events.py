"""Preprocessing of a log of several kinds of events as JSON lines, without an item table, and of what it depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.base.progress import Stages
from preprocessing.config import DataSections
from preprocessing.run import data_fingerprint, preprocess

KINDS = ("view", "cart", "purchase", "search")
DAY = 1_704_412_800


def make_config(folder: Path, **data: Any) -> DataSections:
    document = {
        "name": "events",
        "work_dir": str(folder),
        "data": {
            "interactions": {"path": str(folder / "log")},
            "users": {
                "path": str(folder / "users.dat"),
                "delimiter": "::",
                "columns": ["user", "city"],
            },
            "columns": {"user": "user", "item": "item", "timestamp": "at", "event": "event"},
            "events": {"view": 0.25, "cart": 0, "purchase": 1},
            **data,
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "city", "side": "query", "kind": "categorical"},
            {"name": "tags", "side": "context", "kind": "multi"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
        ],
    }
    return parse_config(document, DataSections, "file.yaml")


def write_log(folder: Path, rows: int = 120) -> None:
    """Kinds in turn; a search names something that is no item, and one row in two files is broken."""
    (folder / "log").mkdir()
    for part in range(2):
        lines = []
        for at in range(part * rows // 2, (part + 1) * rows // 2):
            kind = KINDS[at % 4]
            item = f"words {at}" if kind == "search" else f"i{at % 7}"
            row = {"user": f"u{at % 9}", "item": item, "at": DAY + 3_600 * at, "event": kind}
            lines.append(json.dumps({**row, "tags": ["a", "b"][: at % 3]}))
        (folder / "log" / f"part-{part}.jsonl").write_text("\n".join([*lines, "{"[:part]]) + "\n")
    (folder / "users.dat").write_text("".join(f"u{at}::city {at % 2}\n" for at in range(9)))


@pytest.mark.slow
def test_a_log_of_events_is_divided_by_kind_in_every_pass(tmp_path: Path) -> None:
    write_log(tmp_path)
    config, out = make_config(tmp_path), tmp_path / "data"
    console = Console(record=True, width=300)
    manifest = preprocess(config, out, stages=Stages(console))
    (log,) = [each for name, each in manifest["sources"].items() if name == "log"]
    assert (log["rows"], log["kept"], log["rejected"]) == (121, 60, {"malformed row": 1})
    assert log["set_aside"] == {
        "event 'cart' of weight 0": 30,
        "event 'search', which data.events does not list": 30,
    }
    assert "data.events does not list: 'search' (30)" in console.export_text()
    keys = pq.read_table(next((out / "items").glob("*.parquet")))
    assert manifest["counts"]["items"] == 7 and keys.num_rows == 7
    assert manifest["counts"]["users_in_table"] == 9


@pytest.mark.slow
def test_a_log_without_a_positive_says_what_it_holds(tmp_path: Path) -> None:
    write_log(tmp_path)
    config = make_config(tmp_path, events={"View": 1, "cart": 0})
    with pytest.raises(LongtailError, match=r"no row is an event .* holds 'purchase' \(30\), "):
        preprocess(config, tmp_path / "data")
    config = make_config(tmp_path, events={"View": 1})
    with pytest.raises(LongtailError, match=r"no row is an event of data.events"):
        preprocess(config, tmp_path / "data")


def test_each_new_key_makes_data_anew(tmp_path: Path) -> None:
    write_log(tmp_path)
    users = {"path": str(tmp_path / "users.dat"), "delimiter": "::", "columns": ["user", "city"]}
    configs = [
        make_config(tmp_path),
        make_config(tmp_path, events={"view": 0.5, "purchase": 1}),
        make_config(tmp_path, interactions={"path": str(tmp_path / "log"), "encoding": "utf-8"}),
        make_config(tmp_path, users={**users, "columns": ["city", "user"]}),
        make_config(tmp_path, users={**users, "delimiter": ":;"}),
    ]
    assert len({data_fingerprint(config) for config in configs}) == len(configs)
