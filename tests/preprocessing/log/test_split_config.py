"""What the section ``split`` accepts, and splits that get nothing."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.log.empty_splits import require_examples
from preprocessing.log.splits import TimeHistogram, boundaries, describe
from preprocessing.split_config import SplitConfig

COUNTED = {"train_interactions": 400, "validation_interactions": 0, "test_interactions": 9}


@pytest.mark.parametrize(
    ("method", "remedy"),
    [("global_time", "validation_from"), ("leave_one_out", "nobody has the 3"), ("column", "data.columns.split")],
)  # fmt: skip
def test_a_split_without_interactions_is_refused_with_its_remedy(method: Any, remedy: str) -> None:
    with pytest.raises(LongtailError, match=rf"left validation without an .*{remedy}"):
        require_examples(COUNTED, SplitConfig(method=method))
    with pytest.raises(LongtailError, match="left validation and test without"):
        require_examples({"train_interactions": 4}, SplitConfig(method=method))
    require_examples(COUNTED, SplitConfig(method=method, allow_empty=True))
    require_examples({**COUNTED, "validation_interactions": 1}, SplitConfig(method=method))


@pytest.mark.parametrize("method", ["leave_one_out", "column"])
def test_instants_that_no_method_reads_are_refused(method: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"are for method 'global_time', received method '{method}'"
    ):
        SplitConfig(method=method, validation_from="2023-11-27", test_from="2023-11-28")


def test_configured_boundaries_keep_their_zone() -> None:
    split = SplitConfig(
        validation_from="2023-11-27T00:00:00+09:00", test_from="2023-11-28T12:00:00+09:00"
    )
    bounds = boundaries(split, TimeHistogram())
    assert bounds is not None
    assert describe(bounds, split, bounds[1]) == {
        "validation_from": "2023-11-26T15:00:00", "test_from": "2023-11-28T03:00:00",
        "until": "2023-11-28T03:00:00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        ("2024-01-05", "2024-01-05T00:00:00Z"),
        (datetime.date(2024, 1, 5), "2024-01-05T00:00:00Z"),
        (datetime.datetime(2024, 1, 5, 1), "2024-01-05T01:00:00Z"),
        ("2024-01-05T01:00:00-02:30", "2024-01-05T03:30:00Z"),
    ],
)
def test_an_instant_is_of_utc_where_it_names_no_zone(value: Any, utc: str) -> None:
    split = SplitConfig(validation_from=value, test_from="2025-01-01T00:00+01:00")
    assert split.model_dump(mode="json")["validation_from"] == utc


@pytest.mark.parametrize(
    "value", [20240105, 1_704_412_800, "1704412800", "05/01/2024", "now", True]
)
def test_an_instant_is_no_number_and_no_other_text(value: Any) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        SplitConfig(validation_from=value, test_from="2025-01-01")
