"""Source columns to raw features: every row for itself, missing values in every dress."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, FeatureList
from preprocessing.sources.columns import (
    NEGATIVE,
    NO_NUMBER,
    NO_TEXT,
    UNALIGNED,
    UNDERFLOW,
    raw_features,
)

TAGS = Feature(name="tags", side="item", kind="multi", max_length=2, weights_column="w")


def raw(columns: dict[str, Any], *features: Feature) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns as lists, and the places of the rows that are noted by reason."""
    arrays = [each if isinstance(each, pa.Array) else pa.array(each) for each in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    found = raw_features(batch, FeatureList(features), "file")
    assert not found.rejected
    noted = {reason: np.flatnonzero(rows).tolist() for reason, rows in found.noted.items()}
    return {name: column.to_pylist() for name, column in found.columns.items()}, noted


def test_cells_are_split_trimmed_cut_and_weighted() -> None:
    columns, noted = raw(
        {"tags": ["a| b |c", "", None, "|d"], "w": ["1|2|3", "", None, "9|8"]}, TAGS
    )
    assert columns["tags"] == [[b"a", b"b"], [], [], [b"d"]]
    assert columns["tags_weights"] == [[1.0, 2.0], [], [], [8.0]]
    assert noted == {}


def test_weights_that_do_not_fit_are_of_their_row_alone() -> None:
    tags = ["a|b", "a|b|c", "a||b", "a|b", "a|b", "a|b", "a|b", None, "a|b|c"]
    weights = ["1|2", "1|2|3|4", "1|2|3", None, "1|", "1|x", "1|-2", "1|2", "3|4|?"]
    columns, noted = raw({"tags": tags, "w": weights}, TAGS)
    assert columns["tags_weights"] == [
        [1, 2],
        [1, 1],  # three values, four weights
        [1, 3],  # paired before the empty value is dropped
        [1, 1],
        [1, 1],
        [1, 1],
        [1, 0],
        [],
        [3, 4],  # the third weight is that of a value which is cut
    ]
    assert noted == {UNALIGNED.format("tags"): [1, 3, 4, 5], NEGATIVE.format("tags"): [6]}


def test_lists_pair_with_lists_also_where_one_holds_a_null() -> None:
    tags = pa.array([["a", None, "b"], ["a"], None, ["c", "d"]])
    weights = pa.array([[1.0, 2.0, 3.0], [None], [5.0], [4.0, float("nan")]])
    columns, noted = raw({"tags": tags, "w": weights}, TAGS)
    assert columns["tags"] == [[b"a", b"b"], [b"a"], [], [b"c", b"d"]]
    assert columns["tags_weights"] == [[1, 3], [1], [], [1, 1]]
    assert noted == {UNALIGNED.format("tags"): [1, 3]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([[3, None], [], None]), [[b"3"], [], []]),
        (pa.array([[3.0, float("nan")], [1.5], []]), [[b"3"], [b"1.5"], []]),
        (pa.array([[Decimal("3.0")], None, []]), [[b"3"], [], []]),
        (pa.array([["x", " "], ["y"], []], pa.large_list(pa.string())), [[b"x"], [b"y"], []]),
        (pa.ListArray.from_arrays([0, 2, 3, 3], pa.array(["x", "y", "x"]).dictionary_encode()),
         [[b"x", b"y"], [b"x"], []]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), [[b"1", b"2"], [], [b"3", b"4"]]),
        (pa.array(["x|y", None, "z"]).dictionary_encode(), [[b"x", b"y"], [], [b"z"]]),
        (pa.array([b"x|y", b"\xff", b"z"]), [[b"x", b"y"], [], [b"z"]]),
        (pa.array([7, None, 8]), [[b"7"], [], [b"8"]]),
        (pa.nulls(3), [[], [], []]),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)  # fmt: skip
def test_several_values_of_every_type(values: pa.Array, expected: list[list[bytes]]) -> None:
    assert raw({"tags": values}, Feature(name="tags", side="item", kind="multi"))[0]["tags"] == (
        expected
    )


def test_a_weight_may_be_a_number_of_its_own_column() -> None:
    columns, noted = raw({"tags": ["a", "b|c"], "w": pa.array([2.5, 3.0])}, TAGS)
    assert columns["tags_weights"] == [[2.5], [1, 1]]
    assert noted == {UNALIGNED.format("tags"): [1]}


@pytest.mark.parametrize(
    ("kind", "values", "rows"),
    [
        ("categorical", pa.array([b"a", b"caf\xe9", None, b""]), [1]),
        ("categorical", pa.array([b"a", b"caf\xe9", b"\xff"]).dictionary_encode(), [1, 2]),
        ("categorical", pa.array([1.5, float("inf"), None, float("nan"), float("-inf")]), [1, 4]),
        ("categorical", pa.array(["a", None, " "]), []),
        ("multi", pa.array([b"x|y", b"x|\xff", None]), [1]),
        ("multi", pa.array([[b"x", b"\xff"], [], [b"y"], [b"\xfe"]]), [0, 3]),
        ("multi", pa.array([[1.0, float("inf")], [2.0]]), [0]),
    ],
)
def test_what_was_given_and_is_no_text_is_told(
    kind: str, values: pa.Array, rows: list[int]
) -> None:
    feature = Feature(name="x", side="item", kind=kind)
    assert raw({"x": values}, feature)[1] == ({NO_TEXT.format("x"): rows} if rows else {})


def test_bytes_that_are_no_number_and_numbers_that_float32_cannot_hold_are_told() -> None:
    feature = Feature(name="x", side="item", kind="numeric")
    columns, noted = raw({"x": pa.array([b"1.5", b"\xff", None])}, feature)
    assert (columns["x"], noted) == ([[1.5], [], []], {NO_NUMBER.format("x"): [1]})
    columns, noted = raw({"x": pa.array([1e-50, 0.0, 1.0, -1e-60])}, feature)
    assert columns["x"] == [[0.0], [0.0], [1.0], [0.0]]
    assert noted == {UNDERFLOW.format("x"): [0, 3]}


def test_numbers_are_checked_as_they_are_stored() -> None:
    price = Feature(name="price", side="item", kind="numeric")
    columns, noted = raw({"price": ["3", "?", "1e39", "", None, "nan", "1e18"]}, price)
    assert columns["price"] == [[3.0], [], [], [], [], [], [pytest.approx(1e18)]]
    assert noted == {NO_NUMBER.format("price"): [1, 2]}
    assert raw({"price": pa.array([Decimal("1.5"), None])}, price)[0]["price"] == [[1.5], []]
    assert raw({"price": pa.array([True, None])}, price)[0]["price"] == [[1.0], []]
    assert raw({"price": pa.array([[2, 3], []])}, price)[0]["price"] == [[2.0], []]


def test_missing_values_are_empty_lists() -> None:
    town = Feature(name="town", side="query", kind="categorical")
    assert raw({"town": [None, "Rome", " ", "", "nan"]}, town) == (
        {"town": [[], [b"Rome"], [], [], [b"nan"]]}, {},
    )  # fmt: skip
    assert raw({"town": pa.array([float("nan"), 2.0])}, town)[0]["town"] == [[], [b"2"]]


CELLS = st.one_of(st.none(), st.text("ab|; 1-.", max_size=6))
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8)


@given(ROWS, st.data())
def test_the_outcome_does_not_depend_on_how_rows_fall_into_batches(rows: Any, data: Any) -> None:
    features = (
        TAGS,
        Feature(name="price", side="item", kind="numeric"),
        Feature(name="words", side="item", kind="text", column="price"),
    )
    columns = dict(zip(("tags", "w", "price"), zip(*rows, strict=True), strict=True))
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    cut = data.draw(st.integers(0, len(rows)))
    whole, noted = raw(arrays, *features)
    first, of_first = raw({n: a.slice(0, cut) for n, a in arrays.items()}, *features)
    rest, of_rest = raw({n: a.slice(cut) for n, a in arrays.items()}, *features)
    assert whole == {name: first[name] + rest[name] for name in whole}
    together = {
        reason: of_first.get(reason, []) + [at + cut for at in of_rest.get(reason, [])]
        for reason in {*of_first, *of_rest}
    }
    assert noted == together


@pytest.mark.parametrize("kind", ["categorical", "multi", "numeric", "text"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[{"a": 1}]]),
        pa.array([1], pa.duration("s")),
        pa.array([1], pa.time64("us")),
    ],
    ids=lambda values: str(values.type),
)
def test_a_type_that_no_feature_can_be_read_of_is_refused(kind: str, values: pa.Array) -> None:
    feature = Feature(name="f", side="item", kind=kind, column="c")
    with pytest.raises(LongtailError, match=rf"^file: column 'c' .* no feature of kind '{kind}'"):
        raw({"c": values}, feature)
