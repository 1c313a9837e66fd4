"""Text in other encodings: read right, told of where it is not, and a broken character costs its row."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources.readers import plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.sources.text_stream import as_utf8

TEXT = "a,b\r\n1,Müller €\r\n2,x\r\n"


def rows_of(table: TableConfig) -> tuple[list[tuple[Any, ...]], RowOutcomes]:
    outcomes, rows = RowOutcomes(LOG), []
    for unit in plan(table, ["a", "b"])[0]:
        for read in read_unit(unit, ["a", "b"], 2, outcomes):
            outcomes.rows += read.batch.num_rows
            rows += list(zip(*read.batch.to_pydict().values(), strict=True))
    return rows, outcomes


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        ("utf-8", None), ("utf-8-sig", None), ("utf-8-sig", "utf-8"), ("utf-8-sig", "UTF8"),
        ("utf-16", None), ("utf-16", "utf-16"), ("utf-16", "utf-16-le"), ("utf-16-be", "utf-16-be"),
        ("utf-32", None), ("cp1252", "cp1252"), ("iso8859-15", "iso-8859-15"), ("gb18030", "gb18030"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_encodings(tmp_path: Path, codec: str, encoding: str | None, ending: str) -> None:
    content = TEXT.encode(codec)
    path = tmp_path / f"t{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    rows, outcomes = rows_of(TableConfig(path=str(path), encoding=encoding))
    assert rows == [("1", "Müller €"), ("2", "x")]
    assert not outcomes.rejected


def test_json_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes('{"a": "é", "b": 1}\n'.encode("utf-16"))
    assert rows_of(TableConfig(path=str(tmp_path / "t.jsonl")))[0] == [("é", "1")]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("ascii", b"a,b\n1,\xc3\xa9\n2,x\n"),
        ("cp1252", b"a,b\n1,\xc3\x81\n2,x\n"),
        ("utf-16-le", "a,b\n1,".encode("utf-16-le") + b"\x00\xd8" + "\n2,x\n".encode("utf-16-le")),
        ("shift_jis", b"a,b\n1,\x81\n2,x\n"),
    ],
)
def test_what_cannot_be_decoded_costs_its_row(
    tmp_path: Path, encoding: str, content: bytes
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    rows, outcomes = rows_of(TableConfig(path=str(tmp_path / "t.csv"), encoding=encoding))
    assert rows == [("2", "x")]
    (listed,) = outcomes.entries("rejected")
    assert (listed["line"], listed["detail"]) == (2, f"a value of 'b' is not {encoding}")
    assert outcomes.rows == 2


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (
            TEXT.encode("utf-8-sig"),
            "latin-1",
            "received the byte order mark of utf-8: leave 'encoding' out",
        ),
        (TEXT.encode("utf-16"), "utf-8", "received the byte order mark of utf-16-le"),
        (TEXT.encode("utf-16-le"), None, "in another encoding"),
        (TEXT.encode("cp1252"), "utf-16-le", "no header line|in another encoding|expected column"),
        (b"PK\x03\x04etc.", None, "a ZIP archive or a spreadsheet: unpack it"),
        (b"PAR1etc.", None, "it is Parquet: set format: parquet"),
    ],
)
def test_contradictions_are_told(
    tmp_path: Path, content: bytes, encoding: str | None, words: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(LongtailError, match=words):
        rows_of(TableConfig(path=str(tmp_path / "t.csv"), encoding=encoding))


@pytest.mark.parametrize(
    "name", ["utf-9", "base64", "rot13", "idna", "undefined", "", "punycode", "a\0b"]
)
def test_what_is_no_encoding_of_text_is_refused_with_the_configuration(name: str) -> None:
    with pytest.raises(ValueError, match="encoding expected the name of an encoding of text"):
        TableConfig(path="t.csv", encoding=name)


@settings(max_examples=40)
@given(
    text=st.text(st.sampled_from("ab,é€\n\r\U0001f600"), max_size=40),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le", "utf-7"]),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=10),
)
def test_a_stream_is_the_same_however_it_is_read(text: str, codec: str, sizes: list[int]) -> None:
    stream = as_utf8(io.BytesIO(text.encode(codec)), None if codec == "utf-8-sig" else codec, "t")
    found = b""
    while read := stream.read(sizes[len(found) % len(sizes)]):
        found += read
    assert found.decode() == text
