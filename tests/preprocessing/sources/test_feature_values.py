"""What is told of a feature as a whole: that nothing of it is there, or that its numbers reach too far."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from preprocessing.config import DataConfig
from preprocessing.features import Feature, FeatureList
from preprocessing.sources.columns import raw_features
from preprocessing.sources.feature_values import warnings
from preprocessing.sources.row_outcomes import RowOutcomes
from preprocessing.sources.row_report import report, report_users

PRICE = Feature(name="price", side="item", kind="numeric")
BANDS = Feature(name="bands", side="item", kind="numeric", column="price", buckets=3)
TAGS = Feature(name="tags", side="item", kind="multi")


def told(prices: list[Any], tags: list[Any], cut: int = 0) -> list[str]:
    """Of a table that was read in two parts."""
    batch = pa.RecordBatch.from_pydict({"price": prices, "tags": tags})
    features = FeatureList((PRICE, BANDS, TAGS))
    whole = RowOutcomes("items")
    for part in (batch.slice(0, cut), batch.slice(cut)):
        raw = raw_features(part, features, "items.csv").columns
        outcomes = RowOutcomes("items")
        outcomes.observe(features, pa.RecordBatch.from_arrays(list(raw.values()), list(raw)))
        whole.merge(outcomes)
    return list(warnings(whole.features))


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_feature_without_a_value_is_told_of(cut: int) -> None:
    assert told(["1", "2"], ["", None], cut) == [
        "'tags' has no value in any of 2 rows: it is taken as missing everywhere"
    ]
    assert told(["1", "2"], ["", "x"], cut) == []
    assert len(told([None, "?"], [None, None], cut)) == 3


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_numbers_of_many_orders_of_magnitude_are_told_of_unless_in_buckets(cut: int) -> None:
    (found,) = told(["1e-12", "0", "-1e18"], ["x", "y", "z"], cut)  # 30 orders
    assert found.startswith("'price' holds numbers of 1.0e-12 to 1.0e+18 in magnitude")
    assert told(["0", "0.01", "1e12"], ["x", "y", "z"], cut) == []  # 14 orders


def test_it_is_printed_with_the_source(tmp_path: Any) -> None:
    outcomes, printed = RowOutcomes("items", rows=1, kept=1), StringIO()
    raw = raw_features(
        pa.RecordBatch.from_pydict({"tags": [None]}), FeatureList((TAGS,)), "items.csv"
    )
    outcomes.observe(
        FeatureList((TAGS,)), pa.RecordBatch.from_arrays(list(raw.columns.values()), ["tags"])
    )
    report(outcomes, "items.csv", tmp_path, 0.01, Console(file=printed, width=200))
    assert "items: 'tags' has no value in any of 1 rows" in printed.getvalue()


@pytest.mark.parametrize(
    ("known", "words"), [(0, "none of the 9 users of the log is in u.csv"), (1, "")]
)
def test_a_table_that_knows_nobody_is_told_of(known: int, words: str) -> None:
    data = DataConfig(
        interactions={"path": "log.csv"},
        users={"path": "u.csv"},
        columns={"user": "u", "item": "i", "timestamp": "t"},
    )
    printed = StringIO()
    counters = {"users": 9, "users_in_table": known}
    report_users(counters, data, Console(file=printed, width=200))
    assert (words in printed.getvalue()) and bool(words) == bool(printed.getvalue())
