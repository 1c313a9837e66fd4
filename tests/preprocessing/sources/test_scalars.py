"""Values of every Arrow type as text, keys and numbers."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.sources.scalars import (
    KEY_FAULTS,
    UnreadableType,
    keys,
    numbers,
    reading,
    scalars,
    strings,
)

NAN = float("nan")


def dictionary(values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), values)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([12, None]), ["12", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([12.0, 1.5, NAN, None, -0.0]), ["12", "1.5", None, None, "0"]),
        (pa.array([1e15, float("inf")]), ["1000000000000000", None]),
        (pa.array([1.1, 3], pa.float32()), ["1.1", "3"]),
        (pa.array([np.float16(3), None], pa.float16()), ["3", None]),
        (pa.array([Decimal(12), None], pa.decimal128(38, 0)), ["12", None]),
        (pa.array([Decimal("12.50"), Decimal("7.00")], pa.decimal256(50, 2)), ["12.5", "7"]),
        (pa.array([Decimal("1200")], pa.decimal128(5, -2)), ["1200"]),
        (pa.array(["a", "", " \t", "\u00a0", None, "nan", "NULL"]), ["a", *[None] * 4, "nan", "NULL"]),
        (pa.array([b"a", b"\xff", None]), ["a", None, None]),
        (pa.array([b"ab", None], pa.binary(2)), ["ab", None]),
        (pa.array([True, None]), ["true", None]),
        (pa.nulls(2), [None, None]),
        (dictionary(pa.array(["x", None])), [None, "x", None]),
        (dictionary(pa.array([7, 8])), ["8", "7", None]),
        (dictionary(pa.array([7.0, NAN])), [None, "7", None]),
        (pa.array([datetime.date(2024, 1, 5), None]), ["2024-01-05", None]),
        (pa.array([0, 1500], pa.timestamp("ms")), ["1970-01-01T00:00:00", "1970-01-01T00:00:01.5"]),
        (pa.array([["b", "a"], [], None, [None, "c"]]), ["b", None, None, None]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)).slice(1), [None, "3"]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)  # fmt: skip
def test_text_of_every_type(column: pa.Array, expected: list[str | None]) -> None:
    assert strings(column).to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "good", "faults"),
    [
        (pa.array(["a", " ", None, "nan", "a\nb", "a\rb", "a\0"]), ["a", None, None, "nan", *[None] * 3],
         ["", "missing", "missing", "", *["holds a line break or NUL"] * 3]),
        (pa.array([b"a", b"\xff", b" "]), ["a", None, None], ["", "is not UTF-8", "missing"]),
        (pa.array([7.0, 1.5, NAN, 2.0**53, 2.0**53 + 2]), ["7", None, None, "9007199254740992", None],
         ["", "is not a whole number", "missing", "", "is too large for a float to be exact"]),
        (pa.array([2.0**24, 2.0**24 + 2, -1], pa.float32()), ["16777216", None, "-1"],
         ["", "is too large for a float to be exact", ""]),
        (pa.array([float("inf")]), [None], ["is too large for a float to be exact"]),
        (pa.array([Decimal("7.0"), Decimal("7.5")]), ["7", None], ["", "is not a whole number"]),
        (pa.array([2**63], pa.uint64()), ["9223372036854775808"], [""]),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)  # fmt: skip
def test_keys_are_text_on_one_line(column: pa.Array, good: list[Any], faults: list[str]) -> None:
    found, codes = keys(column)
    assert found.to_pylist() == good
    assert [KEY_FAULTS[code] for code in codes] == faults


@pytest.mark.parametrize(
    ("column", "expected", "unusable"),
    [
        (pa.array(["1.5", " -2e1 ", "5.", "x", "1,000", "0x10", "nan", "", None]),
         [1.5, -20, 5, NAN, NAN, NAN, NAN, NAN, NAN], [3, 4, 5]),
        (pa.array(["1e39", "1e18", "1e999", "inf", "9223372036854775808", "-1"]),
         [NAN, 1e18, NAN, NAN, NAN, -1], [0, 2, 3, 4]),
        (pa.array([1e39, -(2.0**62), NAN, float("-inf")]), [NAN, -(2.0**62), NAN, NAN], [0, 3]),
        (pa.array([Decimal("1.25"), None]), [1.25, NAN], []),
        (pa.array([True, False, None]), [1, 0, NAN], []),
        (dictionary(pa.array([7, 8])), [8, 7, NAN], []),
        (pa.array([2**62 + 1, None]), [2.0**62, NAN], []),
        (pa.array([[3, 4], []]), [3, NAN], []),
        (pa.nulls(1), [NAN], []),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)  # fmt: skip
def test_numbers_of_every_type(
    column: pa.Array, expected: list[float], unusable: list[int]
) -> None:
    found, bad = numbers(column)
    np.testing.assert_array_equal(found, expected)
    assert np.flatnonzero(bad).tolist() == unusable


@pytest.mark.parametrize("read", [strings, numbers, keys])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[{"a": 1}]]),
        pa.array([1], pa.duration("s")),
        pa.array([1], pa.time32("s")),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    ],
    ids=lambda column: str(column.type),
)
def test_what_is_no_single_value_is_refused_with_place_and_column(
    read: Any, column: pa.Array
) -> None:
    with (
        pytest.raises(
            LongtailError, match=r"^log\.parquet: column 'who' is of type .+, of which no user"
        ),
        reading("log.parquet", "who", "user"),
    ):
        read(column)


def test_the_first_of_a_list_counts_and_an_empty_list_is_missing() -> None:
    assert scalars(pa.array([[1, 2], [], None, [3]])).to_pylist() == [1, None, None, 3]


VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(), st.integers(-9, 9).map(float)), min_size=1).map(
        lambda x: pa.array(x, pa.float64())
    ),
    st.lists(st.one_of(st.none(), st.binary(max_size=3)), min_size=1).map(
        lambda x: pa.array(x, pa.binary())
    ),
    st.lists(
        st.one_of(st.none(), st.text(" a1.e\n", max_size=4), st.just("18446744073709551615")),
        min_size=1,
    ).map(lambda x: pa.array(x, pa.string())),
    st.lists(
        st.one_of(st.none(), st.decimals(-99, 99, places=2)), min_size=1
    ).map(lambda x: pa.array(x, pa.decimal128(9, 2))),
)  # fmt: skip


@given(VALUES, st.data())
def test_a_value_is_read_alike_whatever_stands_beside_it(column: pa.Array, data: Any) -> None:
    cut = data.draw(st.integers(0, len(column)))
    parts = (column.slice(0, cut), column.slice(cut))
    texts, faults = keys(column)
    assert [x for part in parts for x in keys(part)[0].to_pylist()] == texts.to_pylist()
    assert [x for part in parts for x in keys(part)[1]] == faults.tolist()
    if not pa.types.is_binary(column.type):
        np.testing.assert_array_equal(
            np.concatenate([numbers(part)[0] for part in parts]), numbers(column)[0]
        )


def test_an_unreadable_type_says_what_it_is() -> None:
    with pytest.raises(UnreadableType, match=r"struct<a: int64>"):
        strings(pa.array([{"a": 1}]))
