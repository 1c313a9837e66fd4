"""Readers of every format, and what they say of files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.config import TableConfig
from preprocessing.errors import LongtailError
from preprocessing.readers import plan, read_unit
from preprocessing.row_outcomes import LOG, RowOutcomes
from preprocessing.tfrecords import write_examples

COLUMNS = ["a", "b"]


def everything(table: TableConfig) -> tuple[list[dict[str, object]], list[str]]:
    outcomes = RowOutcomes(LOG)
    units, _ = plan(table, COLUMNS)
    rows = [
        row
        for unit in units
        for read in read_unit(unit, COLUMNS, 2, outcomes)
        for row in read.batch.to_pylist()
    ]
    return rows, [row["text"] for row in outcomes.entries("rejected")]


def test_csv_with_gaps_quotes_and_short_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('b,x,a\n1,2,"p, q"\n,3,r\n4\n')
    rows, malformed = everything(TableConfig(path=str(path)))
    assert rows == [{"a": "p, q", "b": "1"}, {"a": "r", "b": None}]
    assert malformed == ["4"]


def test_parquet_by_row_group(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"a": [1, 2, 3, 4, 5], "b": list("vwxyz"), "c": [0] * 5}),
        tmp_path / "t.parquet",
        row_group_size=2,
    )
    table = TableConfig(path=str(tmp_path / "t.parquet"))
    assert len(plan(table, COLUMNS)[0]) == 3 and plan(table, COLUMNS)[1] == 5
    assert everything(table)[0] == [
        {"a": a, "b": b} for a, b in zip([1, 2, 3, 4, 5], "vwxyz", strict=True)
    ]


def test_tfrecord_of_examples(tmp_path: Path) -> None:
    path = tmp_path / "t.tfrecord"
    batch = pa.RecordBatch.from_arrays(
        [pa.array([[1], [2]]), pa.array([[b"x"], []], pa.list_(pa.binary()))], COLUMNS
    )
    assert write_examples(path, batch) == 2
    rows, _ = everything(TableConfig(path=str(path)))
    assert [row["a"] for row in rows] == [[1], [2]]
    assert rows[0]["b"] == ["x"] and not rows[1]["b"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.parquet", b"a,b\n1,2\n", "not a Parquet file"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\xff\xfe\x00\x01,b\n", "not text"),
        ("t.csv", b"a,bb\n1,2\n", "expected column 'b', received a, bb; did you mean 'bb'"),
        ("t.tfrecord", b"nothing of the kind", "not a TFRecord"),
    ],
)
def test_files_that_are_not_what_they_should_be(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LongtailError, match=words):
        plan(TableConfig(path=str(tmp_path / name)), COLUMNS)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="no file matches"):
        plan(TableConfig(path=str(tmp_path / "*.csv")), COLUMNS)
