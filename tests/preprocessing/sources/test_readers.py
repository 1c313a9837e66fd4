"""A file of every kind that is offered is read, and what is said of files that cannot be."""

from __future__ import annotations

import bz2
import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources.formats.registry import ENDINGS, format_of
from preprocessing.sources.readers import plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.sources.tfrecord_reader import write_examples

COLUMNS = ["a", "b"]
TEXT = b"b,x,a\n1,0,p\n,0,q\n3,0,r\n"
ROWS = [("p", "1"), ("q", None), ("r", "3")]


def everything(table: TableConfig, batch_rows: int = 2) -> tuple[list[Any], RowOutcomes]:
    """Rows as (a, b), the first value of a list, and the tally."""
    outcomes = RowOutcomes(LOG)
    rows = []
    for unit in plan(table, COLUMNS)[0]:
        for read in read_unit(unit, COLUMNS, batch_rows, outcomes):
            outcomes.rows += read.batch.num_rows
            rows += [(row["a"], row["b"]) for row in read.batch.to_pylist()]
    plain = [
        tuple((v[0] if v else None) if isinstance(v, list) else v for v in row) for row in rows
    ]
    return plain, outcomes


def zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return bytes(sink.getvalue())


def write(path: Path) -> None:
    """ROWS, in the format that the ending says."""
    table = pa.table({"b": ["1", None, "3"], "a": ["p", "q", "r"]})
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".zst": zst,
    }
    if path.name.endswith(".parquet"):
        pq.write_table(table, path)
    elif ".tfrecord" in path.name:
        plain = path.with_name("plain")
        values = [[[v] if v else None for v in table[n].to_pylist()] for n in COLUMNS]
        lists = [pa.array(each, pa.list_(pa.binary())) for each in values]
        write_examples(plain, pa.RecordBatch.from_arrays(lists, COLUMNS))
        content = plain.read_bytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        plain.unlink()
    else:
        tabs = TEXT.replace(b",", b"\t")
        form = format_of(path.name)
        if form == "jsonl":
            content = b'{"b": 1, "a": "p"}\n{"a": "q", "b": null}\n{"a": "r", "b": 3}\n'
        elif form == "recbole":
            content = tabs.replace(b"b\tx\ta", b"b:float\tx:token_seq\ta:token")
        else:
            content = tabs if path.suffixes[0] in (".tsv", ".tab") else TEXT
        path.write_bytes(pack.get(path.suffix, bytes)(content))


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_that_is_offered_is_read(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"t{ending}")
    rows, outcomes = everything(TableConfig(path=str(tmp_path / f"t{ending}")))
    assert rows == ROWS
    assert (outcomes.rows, outcomes.rejected) == (3, {})


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".tfrecord"])
@pytest.mark.parametrize("name", ["log", "log.csv"])
def test_a_folder_as_spark_writes_it_is_its_parts(tmp_path: Path, ending: str, name: str) -> None:
    """Its own name says nothing of their format; empty parts are usual."""
    folder = tmp_path / name
    folder.mkdir()
    for number in range(2):
        write(folder / f"part-{number:05}-c000{ending}")
        (folder / f".part-{number:05}-c000{ending}.crc").write_bytes(b"crc\0")
    (folder / "_SUCCESS").touch()
    if ending == ".csv":
        (folder / f"part-00002-c000{ending}").touch()
    assert everything(TableConfig(path=str(folder)))[0] == [*ROWS, *ROWS]


def test_a_pattern_is_of_the_format_of_its_files(tmp_path: Path) -> None:
    for name in ("t-1.csv", "t-2.csv.gz", "u.parquet"):
        write(tmp_path / name)
    assert everything(TableConfig(path=str(tmp_path / "t-*")))[0] == [*ROWS, *ROWS]
    with pytest.raises(LongtailError, match=r"cannot tell the format .*set 'format'"):
        everything(TableConfig(path=str(tmp_path / "*")))


def test_rows_have_their_numbers_within_the_file(tmp_path: Path) -> None:
    """Over row groups and batches."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": list(range(5)), "b": list("vwxyz")}), path, row_group_size=3)
    units, rows = plan(TableConfig(path=str(path)), COLUMNS)
    assert (len(units), rows) == (2, 5)
    read = [r for u in units for r in read_unit(u, COLUMNS, 2, RowOutcomes(LOG))]
    assert [(r.ordinal, r.numbers.tolist()) for r in read] == [(0, [0, 1]), (0, [2]), (1, [3, 4])]
    assert read[-1].place(1) == {"source": str(path), "row": 5}


def test_an_example_that_is_broken_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "t.tfrecord"
    good = tf.train.Example()
    good.features.feature["a"].bytes_list.value.append(b"p")
    good.features.feature["b"].bytes_list.value.append(b"1")
    other = tf.train.Example.FromString(good.SerializeToString())
    other.features.feature["b"].bytes_list.value[0] = b"\xff"
    with tf.io.TFRecordWriter(str(path)) as out:
        for record in (good.SerializeToString(), b"\x0ano", other.SerializeToString()) * 2:
            out.write(record)
    for batch_rows in (1, 2, 100):
        rows, outcomes = everything(TableConfig(path=str(path)), batch_rows)
        assert rows == [("p", "1")] * 2
        assert [(e["row"], e["detail"]) for e in outcomes.entries("rejected")] == [
            (2, "no tf.train.Example"),
            (3, "a value of 'b' is not UTF-8"),
            (5, "no tf.train.Example"),
            (6, "a value of 'b' is not UTF-8"),
        ]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    "ending", [e for e in ENDINGS if e.startswith((".csv.", ".jsonl.", ".parquet", ".tfrecord"))]
)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    write(path)
    cut_off(path)
    with pytest.raises(LongtailError, match=re.escape(str(path))) as caught:
        everything(TableConfig(path=str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.parquet", b"a,b\n1,2\n", "not a Parquet file"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\xff\xfe\x00\x01,b\n", "not text"),
        ("t.csv.gz", b"a,b\n1,2\n", "cut off or damaged"),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "not text"),
        ("t.csv", b"a,bb\n1,2\n", "expected column 'b', received a, bb; did you mean 'bb'"),
        ("t.csv", b"a,b,a\n1,2,3\n", "expected one column 'a', received 2 of that name"),
        ("t.tfrecord", b"nothing of the kind", "not a TFRecord"),
    ],
)
def test_files_that_are_not_what_they_should_be(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LongtailError, match=words):
        everything(TableConfig(path=str(tmp_path / name)))


def test_files_of_one_table_hold_the_same_kinds_of_values(tmp_path: Path) -> None:
    """Numbers of another width and columns without a value are the same; the file that differs is named."""
    types = [pa.int64(), pa.int32(), pa.null(), pa.string()]
    for number, kind in enumerate(types):
        table = pa.table({"a": ["x"], "b": pa.nulls(1, kind)})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    assert len(plan(TableConfig(path=str(tmp_path / "[0-2].parquet")), COLUMNS)[0]) == 3
    with pytest.raises(
        LongtailError, match=r"3\.parquet: expected 'b' to be int64 as in .*0\.parquet, .*string"
    ):
        plan(TableConfig(path=str(tmp_path / "*.parquet")), COLUMNS)
    shutil.copy(tmp_path / "0.parquet", tmp_path / "9.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "9.parquet")
    with pytest.raises(LongtailError, match=r"9\.parquet: expected column 'b', received a"):
        plan(TableConfig(path=str(tmp_path / "[09].parquet")), COLUMNS)
