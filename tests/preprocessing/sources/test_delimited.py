"""CSV line by line: what is broken is counted with its line, and nothing else changes, however the file is cut."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources import delimited, text_rows
from preprocessing.sources.delimited import Dialect
from preprocessing.sources.formats.csv import Csv
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.sources.text_stream import as_utf8

QUOTE = "a quote that is not closed"


def read(
    content: bytes, columns: str = "ab", block: int = 1 << 20, **table: Any
) -> tuple[list[tuple[int, ...]], dict[int, str], RowOutcomes]:
    """Rows as (line, values), what is broken by line, and the tally."""
    outcomes, rows = RowOutcomes(LOG), []
    config = TableConfig(path="t.csv", **table)
    dialect = Csv().dialect(config, "t.csv")
    stream = as_utf8(io.BytesIO(content), config.encoding, "t.csv")
    for found in delimited.read(stream, dialect, ("t.csv", 0), list(columns), 3, outcomes, block):
        assert found.lines is not None
        rows += list(zip(found.lines.tolist(), *found.batch.to_pydict().values(), strict=True))
        outcomes.rows += found.batch.num_rows
    broken = {entry["line"]: entry["detail"] for entry in outcomes.entries("rejected")}
    return rows, broken, outcomes


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("lines", "rows", "broken"),
    [
        # Two stray quotes, whatever lies between them, cost two rows.
        (
            ['1,"x', "2,y", '3,"z', "4,w"],
            [(3, "2", "y"), (5, "4", "w")],
            {2: QUOTE, 4: QUOTE},
        ),
        (["1,x,9", "2", "3,y"], [(4, "3", "y")], {2: "received 3", 3: "received 1"}),
        (['1,"x"y', "2,y"], [(3, "2", "y")], {2: "text after a closing quote"}),
        # A quote within an unquoted value is itself; doubled within quotes it is one.
        (['1,5" disc', '2,"5"" disc"', '3,""'], [(2, "1", '5" disc'), (3, "2", '5" disc'), (4, "3", None)], {}),
        (['"p, q","r,"', ",", "", "4,z"], [(2, "p, q", "r,"), (3, None, None), (5, "4", "z")], {}),
        (["1,x\0", "2,y"], [(3, "2", "y")], {2: "a NUL byte"}),
        (["1,x\ry", "2,y\r", "3,z"], [(3, "2", "y"), (4, "3", "z")], {2: "carriage return"}),
    ],
)  # fmt: skip
def test_a_broken_line_costs_its_row_alone(
    lines: list[str], rows: list[Any], broken: dict[int, str], block: int
) -> None:
    found, faults, _ = read("\n".join(["a,b", *lines]).encode(), block=block)
    assert found == rows
    assert faults.keys() == broken.keys()
    assert all(broken[line] in faults[line] for line in broken)


def test_a_value_that_is_not_utf8_costs_its_row_where_the_column_is_read() -> None:
    content = b"a,b,c\n1,x,\xff\n2,\xff,y\n3,\xc3\xa9,z\n"
    rows, broken, outcomes = read(content)
    assert rows == [(2, "1", "x"), (4, "3", "é")]
    assert broken == {3: "a value of 'b' is not UTF-8"}
    (listed,) = outcomes.entries("rejected")
    assert (listed["row"], listed["text"]) == (2, "2 | \ufffd")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y", [(2, "1", "x"), (3, "2", "y")]),  # Windows, no last end
        (b"a,b\r1,x\r2,y\r", [(2, "1", "x"), (3, "2", "y")]),  # Excel for Mac
        (b'"b",c,"a"\nx,9,1\n', [(2, "1", "x")]),
        (b"a,c,b,c\n1,8,x,9\n", [(2, "1", "x")]),  # a name twice that is not read
        (b"a,b\n", []),
    ],
)
def test_ends_of_lines_headers_and_byte_order_marks(content: bytes, rows: list[Any]) -> None:
    for block in (1, 1 << 20):
        assert read(content, block=block)[0] == rows


def test_a_tab_is_the_delimiter_of_tsv() -> None:
    """Of the file's own ending: a folder says nothing."""
    folder = TableConfig(path="folder", format="csv")
    for name in ("x.tsv", "x.tsv.gz", "x.tab", "x.tab.zst"):
        assert Csv().dialect(folder, name).delimiter == "\t"
    assert Csv().dialect(TableConfig(path="x.tsv", delimiter=";"), "x.tsv").delimiter == ";"
    assert read(b"a|b\n1|x,y\n", delimiter="|")[0] == [(2, "1", "x,y")]
    for wrong in ('"', "\n", 'a"', "a\n", "§", "", "x" * 17):
        with pytest.raises(ValueError, match="delimiter"):
            TableConfig(path="x.csv", delimiter=wrong)


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
def test_quoted_line_breaks_are_read_where_they_are_expected(block: int) -> None:
    content = b'a,b\n1,"x\n\ny, ""z"""\r\n2,y\n3,"never\n4,z\n5,"w"\n'
    rows, broken, _ = read(content, block=block, quoted_line_breaks=True)
    # The quote of line 6 would end before the w of line 8, after which more text comes: it is that line's fault.
    assert rows == [(2, "1", 'x\n\ny, "z"'), (5, "2", "y"), (7, "4", "z"), (8, "5", "w")]
    assert broken == {6: "text after a closing quote"}
    rows, broken, _ = read(content, block=block)
    assert [row[0] for row in rows] == [
        4,
        5,
        7,
        8,
    ]  # line 4 reads like a row, line 2 says that it is none
    assert sorted(broken) == [2, 6]


@pytest.mark.parametrize(("lines", "is_read"), [(999, True), (1_001, False)])
def test_a_value_over_too_many_lines_is_a_quote_that_was_never_closed(
    lines: int, is_read: bool
) -> None:
    content = b'a,b\n1,"' + b"x\n" * (lines - 1) + b'x"\n2,y\n'
    rows, broken, outcomes = read(content, quoted_line_breaks=True)
    assert rows[-1] == (lines + 2, "2", "y")
    assert (len(rows) == 2) is is_read
    assert (broken.get(2) == QUOTE) is not is_read
    assert outcomes.rows == len(rows) + sum(outcomes.rejected.values())


def test_a_line_without_end_costs_its_row_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "LONGEST_LINE", 1_000)
    for length, is_read in ((998, True), (999, False), (200_000, False)):
        content = b"a,b\n1,x\n2," + b"y" * length + b"\n3,z\n"
        for block in (64, 1 << 20):
            rows, broken, _ = read(content, block=block)
            assert [row[0] for row in rows] == ([2, 3, 4] if is_read else [2, 4])
            assert broken == ({} if is_read else {3: "longer than 1,000 bytes"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no header line"),
        (b"\n1,2\n", "has no header line"),
        (
            "a,b\n1,2\n".encode("utf-16-le"),
            "is not text, or is in another encoding: .*'encoding' set",
        ),
        (
            b"\x1f\x8b\x08\x00garbage",
            r"is not text, it is compressed by gzip: give it the ending \.gz",
        ),
    ],
)
def test_headers_that_are_none(content: bytes, words: str) -> None:
    with pytest.raises(LongtailError, match=rf"t\.csv {words}"):
        delimited.first_line(as_utf8(io.BytesIO(content), None, "t.csv"), Dialect(), "t.csv")


PIECES = st.sampled_from(["x", '"', ",", "\n", "\r", "\r\n", "é", '""', "\n\n"])


@settings(max_examples=60)
@given(text=st.lists(PIECES, max_size=40).map("".join), block=st.integers(1, 50))
def test_every_line_is_a_row_a_broken_row_or_blank(text: str, block: int) -> None:
    """Against a slow account, line by line; also with quoted line breaks blocks change nothing."""
    content = "a,b\n" + text
    rows, broken, outcomes = read(content.encode(), block=block)
    expected, blank = [], 0
    lines = content.split("\n")
    for number, line in enumerate(lines[1:], 2):
        bare = line.removesuffix("\r") if number < len(lines) else line
        if not bare or (number == len(lines) and bare == "\r"):
            blank += 1
        elif "\r" not in bare and number not in broken:
            (values,) = csv.reader([bare], strict=True)
            expected.append((number, *(value or None for value in values)))
    assert rows == expected
    assert outcomes.rows + blank == len(lines) - 1
    whole = read(content.encode(), quoted_line_breaks=True)
    assert read(content.encode(), block=block, quoted_line_breaks=True)[:2] == whole[:2]
