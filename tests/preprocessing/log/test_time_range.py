"""Logs that lie where none does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.config import DataConfig
from preprocessing.log.splits import TimeHistogram
from preprocessing.log.time_range import examine, peek

SECOND, DAY = 10**6, 86_400 * 10**6
NOW = 20_000 * DAY
"""2024-10-04."""
YEAR_OF_DAYS = 19_000 + np.arange(365)


def found(days: Any) -> tuple[list[str], list[str]]:
    findings = examine(TimeHistogram().add((np.asarray(days) * DAY).astype(np.int64)), NOW)
    return findings.errors, findings.warnings


def test_a_year_of_events_is_taken_without_a_word() -> None:
    assert found(YEAR_OF_DAYS) == ([], [])
    assert found([]) == ([], [])


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (YEAR_OF_DAYS / 1000, "before 1980, from 1970-01-20 to 1970-01-20"),
        (YEAR_OF_DAYS + 10_000, "in the future, from 2049-05-29 to 2050-05-"),
        (20_002 + np.arange(100), "in the future, from 2024-10-06"),
        (np.full(21, 19_000), "the 21 events of the log lie within 0 seconds of 2022-01-08T00:00:00"),
        (19_000 + np.arange(100) / 864_000, "within 9.8 seconds"),
    ],
)  # fmt: skip
def test_a_log_that_lies_elsewhere_is_refused_with_the_keys_to_set(days: Any, words: str) -> None:
    (error,), warnings = found(days)
    assert words in error
    assert "data.timestamp_unit" in error and "data.any_time_range: true" in error
    assert warnings == []


def test_a_handful_of_events_may_be_as_short_as_it_likes() -> None:
    assert found(np.full(20, 19_000)) == ([], [])


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        ([0], ["1 events lie before 1980, from 1970-01-01", "1 of 366 events lie 52.1 years before all"]),
        ([19_000 + 364 + 400], ["1 of 366 events lie 1.1 years after all others, the last on 2024-02-11"]),
        ([30_000], ["1 events lie in the future, from 2052-02-20", "1 of 366 events lie 29.1 years after"]),
    ],
)  # fmt: skip
def test_events_far_from_all_others_are_told_of(stray: list[int], words: list[str]) -> None:
    errors, warnings = found([*YEAR_OF_DAYS, *stray])
    assert errors == []
    assert len(warnings) == len(words)
    for word, warning in zip(words, warnings, strict=True):
        assert word in warning


def data(**settings: Any) -> DataConfig:
    columns = {"user": "u", "item": "i", "timestamp": "at"}
    return DataConfig(interactions={"path": "log.csv"}, columns=columns, **settings)


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ([978_300_760_000, 978_304_360_000], "ms"),  # seconds of the year 33009
        ([1_700_000_000_000], "ms"),
        ([1_700_000_000_000_000], "us"),
        ([1_700_000_000_000_000_000], "ns"),
        ([20240101, 20240102], "date"),
    ],
)
def test_numbers_of_another_unit_are_refused_with_it(numbers: list[int], unit: str) -> None:
    for column in (pa.array(numbers), pa.array([str(each) for each in numbers])):
        with pytest.raises(
            LongtailError,
            match=rf"^log\.csv: times of column 'at' .* set data\.timestamp_unit: {unit};",
        ):
            peek(column, data(), "log.csv", NOW)
        peek(column, data(timestamp_unit=unit), "log.csv", NOW)
        peek(column, data(any_time_range=True), "log.csv", NOW)


def test_seconds_where_milliseconds_are_configured_are_told_of_too() -> None:
    with pytest.raises(LongtailError, match=r"lie about 1970-01-20 .* about 2023-11-14 as 's'"):
        peek(pa.array([1_700_000_000]), data(timestamp_unit="ms"), "log.csv", NOW)


def test_what_no_unit_explains_is_left_to_the_look_at_the_whole_log() -> None:
    for column in (pa.array([5, 6]), pa.array(["?", None]), pa.array([], pa.int64()), pa.nulls(1)):
        peek(column, data(), "log.csv", NOW)
    peek(pa.array([0], pa.timestamp("s")), data(), "log.csv", NOW)
    peek(pa.array(["20240101"]), data(timestamp_format="%Y%m%d"), "log.csv", NOW)
