"""Source columns to keys, times, numbers and raw lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from preprocessing.columns import microseconds, numbers, raw_features, scalars, strings
from preprocessing.features import Feature, FeatureList


def test_keys_are_text_whatever_the_source_type() -> None:
    assert strings(pa.array([12, None])).to_pylist() == ["12", None]
    assert strings(pa.array([12.0, None])).to_pylist() == ["12", None]
    assert strings(pa.array([1.5])).to_pylist() == ["1.5"]
    assert strings(pa.array(["a", "", None])).to_pylist() == ["a", None, None]
    assert strings(pa.array([b"a"])).to_pylist() == ["a"]
    assert strings(pa.array(["x", "x"]).dictionary_encode()).to_pylist() == ["x", "x"]


def test_the_first_of_a_list_counts_and_an_empty_list_is_missing() -> None:
    assert scalars(pa.array([[1, 2], [], None, [3]])).to_pylist() == [1, None, None, 3]


def test_unparsable_numbers_are_nan() -> None:
    assert numbers(pa.array(["1.5", "x", None]))[0] == 1.5
    assert np.isnan(numbers(pa.array(["1.5", "x", None]))[1:]).all()


def test_times_of_every_kind() -> None:
    second = 1_000_000
    seconds, valid = microseconds(pa.array(["5", "nonsense", None]), None)
    assert seconds[0] == 5 * second and valid.tolist() == [True, False, False]
    iso, valid = microseconds(pa.array(["1970-01-01T00:00:05Z", "1970-01-01 00:00:06"]), None)
    assert iso.tolist() == [5 * second, 6 * second] and valid.all()
    given, valid = microseconds(pa.array(["02/01/1970", "31/31/1970"]), "%d/%m/%Y")
    assert given[0] == 86_400 * second and valid.tolist() == [True, False]
    stamps, valid = microseconds(pa.array([7, None], pa.timestamp("s")), None)
    assert stamps[0] == 7 * second and valid.tolist() == [True, False]
    whole, valid = microseconds(pa.array([978300760.0, np.nan]), None)
    assert whole[0] == 978300760 * second and valid.tolist() == [True, False]


def test_multi_valued_cells_are_split_trimmed_cut_and_weighted() -> None:
    tags = Feature(name="tags", side="item", kind="multi", max_length=2, weights_column="w")
    batch = pa.record_batch(
        [pa.array(["a| b |c", "", None, "|d"]), pa.array(["1|2|3", "", None, "9"])], ["tags", "w"]
    )
    raw = raw_features(batch, FeatureList((tags,))).columns
    assert raw["tags"].to_pylist() == [[b"a", b"b"], [], [], [b"d"]]
    assert raw["tags_weights"].to_pylist() == [[1.0, 2.0], [], [], [9.0]]


def test_lists_of_a_parquet_file_need_no_separator() -> None:
    tags = Feature(name="tags", side="item", kind="multi")
    batch = pa.record_batch([pa.array([["a", "b"], [], None])], ["tags"])
    assert raw_features(batch, FeatureList((tags,))).columns["tags"].to_pylist() == [
        [b"a", b"b"],
        [],
        [],
    ]


def test_missing_values_are_empty_lists() -> None:
    age = Feature(name="age", side="query", kind="numeric")
    town = Feature(name="town", side="query", kind="categorical")
    batch = pa.record_batch([pa.array(["3", "?"]), pa.array([None, "Rome"])], ["age", "town"])
    raw = raw_features(batch, FeatureList((age, town))).columns
    assert raw["age"].to_pylist() == [[3.0], []]
    assert raw["town"].to_pylist() == [[], [b"Rome"]]
