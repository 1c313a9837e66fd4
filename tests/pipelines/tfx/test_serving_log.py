"""Requests of a server's log as examples; tests/e2e/test_pipeline.py has the pipeline that they stop."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.tfx.serving_log import as_examples, read_requests
from preprocessing.base.errors import LongtailError
from tests.trainer.synthetic import make_config, write_data


@pytest.mark.slow
def test_histories_name_rows_of_known_items(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    features = make_config(tmp_path).feature_list
    histories = [
        ["item-3", "gone", "item-64", ""],
        [],
        [f"item-{row}" for row in range(1, 31)],
        ["gone", "\ud800"],
    ]
    queries = [
        {"user_key": [f"user-{number}"], "age": [30.0], "history": history}
        for number, history in enumerate(histories)
    ]
    examples = as_examples(queries, tmp_path / "data", features)
    last = list(range(31 - features.history_length, 31))
    assert examples.column("history").to_pylist() == [[3, 64], [], last, []]
    assert {name for name in examples.schema.names if name != "history"} == {
        feature.name for feature in features.query_columns
    }
    assert all(len(values) == 1 for values in examples.column("user_key").to_pylist())


def test_the_newest_file_comes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("b", "a")):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({"user": name, "history": ["x"]}) + "\n\n")
        os.utime(path, (1_000 - age, 1_000 - age))
    found = read_requests(str(tmp_path / "*.jsonl"))
    assert found == [{"user": [name], "history": ["x"]} for name in ("b", "a")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "found none in 1 files"),
        ("[1, 2]", r"log\.jsonl, line 1: expected a JSON object of query features, received"),
        ('{"user": ', r"line 1: expected a JSON object"),
    ],
)
def test_what_is_no_log_of_requests(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(LongtailError, match=message):
        read_requests(str(tmp_path / "log.jsonl"))
    with pytest.raises(LongtailError, match=r"in .*\.gone, found no file"):
        read_requests(str(tmp_path / "log.gone"))
