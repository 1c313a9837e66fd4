"""JSON line by line: what is broken costs its row, values keep their digits, and blocks decide nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources import json_lines, text_rows
from preprocessing.sources.columns import column_of
from preprocessing.sources.json_objects import NUMBER
from preprocessing.sources.readers import plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.sources.scalars import keys, numbers
from preprocessing.sources.text_stream import TextStream, as_utf8

BIG = 123_456_789_012_345_678_901


def stream(content: bytes) -> TextStream:
    return as_utf8(io.BytesIO(content), None, "t.jsonl")


def read(
    content: bytes, columns: str = "ab", block: int = 1 << 20, **kinds: str
) -> tuple[list[tuple[Any, ...]], dict[int, str], RowOutcomes]:
    """Rows as (line, values), what is broken by line, and the tally."""
    outcomes, rows = RowOutcomes(LOG), []
    for found in json_lines.read(
        stream(content), kinds, ("t.jsonl", 0), list(columns), 3, outcomes, block
    ):
        assert found.lines is not None
        rows += list(zip(found.lines.tolist(), *found.batch.to_pydict().values(), strict=True))
        outcomes.rows += found.batch.num_rows
    return rows, {e["line"]: e["detail"] for e in outcomes.entries("rejected")}, outcomes


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ('{"a": 1', "no JSON: Expecting ',' delimiter, character 8"),
        ('{"a": 1} {"a": 2}', "no JSON: more after its end, character 9"),
        ("[1, 2]", "a list, expected an object"),
        ("null", "null, expected an object"),
        ('"x"', "text, expected an object"),
        ('{"a": 1, "b": "x", "a": 1}', "the name 'a' occurs twice"),
        ('{"a": 1, "c": {"d": 1, "d": 2}}', "the name 'd' occurs twice"),
        ('{"a": "1"}', "'a' is text, expected a number"),
        ('{"a": true}', "'a' is a boolean, expected a number"),
        ('{"a": [1]}', "'a' is a list, expected a number"),
        ('{"a": {"id": 1}}', "'a' is an object, expected a number"),
        ('{"a": Infinity}', "Infinity, which is no value of JSON"),
        ('{"a": 1e99999999999999999999}', "a number of an exponent"),
        ('{"b": "\\ud800"}', "'b' holds half of a surrogate pair"),
        ('{"b": "\x01"}', "no JSON: Invalid control character"),
        ("[" * 100_000, "nested too deeply"),
        ("\0", "no JSON: Expecting value"),
    ],
)
def test_a_broken_line_costs_its_row_alone(line: str, detail: str) -> None:
    content = f'{{"a": 1, "b": "x"}}\n\n{line}\r\n{{"b": "y", "a": 2}}\n'.encode()
    for block in (1, 1 << 20):
        rows, broken, outcomes = read(content, block=block, a=NUMBER)
        assert rows == [(1, "1", "x"), (4, "2", "y")]
        assert broken.keys() == {3} and broken[3].startswith(detail)
        assert outcomes.entries("rejected")[0]["row"] == 2


def test_text_that_is_not_utf8_costs_its_row() -> None:
    rows, broken, _ = read(b'{"a": "\xff"}\n{"a": "\xc3\xa9"}')
    assert (rows, broken) == ([(2, "é", None)], {1: "not UTF-8"})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (str(BIG), str(BIG)),
        ("9007199254740993", "9007199254740993"),
        ("12.0", "12"),
        ("12.50", "12.5"),
        ("1e3", "1000"),
        ("-0.0", "0"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("1e999999", "1E+999999"),
        ("NaN", None),
        ("null", None),
    ],
)
def test_numbers_keep_their_digits(value: str, written: str | None) -> None:
    assert read(f'{{"a": {value}}}'.encode())[0] == [(1, written, None)]


def test_what_numbers_and_booleans_become_downstream() -> None:
    content = b'{"a": 123456789012345678901, "b": true}\n{"a": 1.5, "b": false}\n{"a": 1e999}\n'
    (rows,) = json_lines.read(stream(content), {}, ("t", 0), ["a", "b"], 9, RowOutcomes(LOG))
    assert keys(column_of(rows.batch, "a"))[0].to_pylist()[0] == str(BIG)
    values, bad = numbers(column_of(rows.batch, "a"))
    assert values[1] == 1.5 and bad.tolist() == [True, False, True]
    assert numbers(column_of(rows.batch, "b"))[0].tolist()[:2] == [1.0, 0.0]


def test_lists_are_several_values_and_an_absent_key_is_a_missing_one() -> None:
    content = b"""{"a": ["x", 2, 2.50, true, null]}
{"a": []}
{}
{"a": [["x"]]}
{"a": [{"x": 1}]}
{"a": "x"}
"""
    rows, broken, _ = read(content, "a")
    assert rows == [(1, ["x", "2", "2.5", "true", None]), (2, []), (3, None)]
    assert broken == {
        4: "'a' holds a list in a list, expected single values",
        5: "'a' holds an object in a list, expected single values",
        6: "'a' is text, expected a list",
    }


def test_the_kind_of_a_column_is_that_of_most_first_rows_of_all_files(tmp_path: Path) -> None:
    """So that one odd row decides nothing, wherever it stands."""
    (tmp_path / "1.jsonl").write_text('{"a": "odd"}\n' + '{"a": 1}\n' * 2)
    (tmp_path / "2.jsonl").write_text('{"a": "odd"}\n{"b": 1, "a": 2}\n')
    outcomes = RowOutcomes(LOG)
    units, _ = plan(TableConfig(path=str(tmp_path)), ["a", "b"])
    found = [r for unit in units for r in read_unit(unit, ["a", "b"], 9, outcomes)]
    assert [row for r in found for row in r.batch.to_pydict()["a"]] == ["1", "1", "2"]
    assert [(e["source"][-7:], e["line"]) for e in outcomes.entries("rejected")] == [
        ("1.jsonl", 1),
        ("2.jsonl", 1),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '[\n{"a": 1},\n{"a": 2}\n]\n',
            "one object a line, .* 'jq -c .\\[\\]' does it for an array",
        ),
        ('{\n  "a": 1\n}\n', "one object a line, .* 'jq -c .' does it for objects"),
        ("a,b\n1,2\n", "one object a line"),
        ("\n\n", r"one object a line.*no text"),
        ('{"b": 1}\n', "expected column 'a', received b"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(LongtailError, match=words):
        plan(TableConfig(path=str(tmp_path / "t.json")), ["a"])


def test_a_line_of_megabytes_is_a_row_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    long = json.dumps({"a": "x" * (10 << 20)}).encode()
    rows, broken, _ = read(b'{"a": "p"}\n' + long + b'\n{"a": "q"}\n', "a")
    assert [len(row[1]) for row in rows] == [1, 10 << 20, 1] and not broken
    monkeypatch.setattr(text_rows, "LONGEST_LINE", 1 << 20)
    rows, broken, _ = read(b'{"a": "p"}\n' + long + b'\n{"a": "q"}\n', "a")
    assert [row[0] for row in rows] == [1, 3]
    assert broken == {2: "longer than 1,048,576 bytes"}


PIECES = st.sampled_from(
    ['{"a": 1}', '{"a": "x"}', '{"b": [1]}', '{"a"', "}", "\n", "\n", "\r\n", "\0", "\ufeff", " "]
)


@settings(max_examples=60)
@given(text=st.lists(PIECES, max_size=40).map("".join), block=st.integers(1, 50))
def test_every_line_is_a_row_a_broken_row_or_blank(text: str, block: int) -> None:
    """However the file is cut; also where the first value tells the kind of the column."""
    content = text.encode()
    rows, broken, outcomes = read(content, block=block)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    given = [each for each in lines if each.strip(b" \r\t")]
    assert outcomes.rows == len(rows) + len(broken) == len(given)
    assert (rows, broken) == read(content)[:2]
