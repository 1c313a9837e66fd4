"""Times of every column type, by value; expected instants are of ``datetime``."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.sources.scalars import UnreadableType
from preprocessing.sources.times import check_format, microseconds, utc_microseconds

SECOND = 1_000_000
HOUR = 3600 * SECOND
UTC = datetime.timezone.utc
JAN_5 = 1_704_412_800 * SECOND
"""2024-01-05T00:00:00Z: 19,727 days of 86,400 s."""


def read(values: Any, *arguments: Any) -> list[int | None]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    times, valid = microseconds(column, *arguments)
    return [int(at) if good else None for at, good in zip(times, valid, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-05", JAN_5),
        ("2024-01-05T10:00", JAN_5 + 10 * HOUR),
        ("2024-01-05T10:00Z", JAN_5 + 10 * HOUR),
        ("2024-01-05 10:00:01.5", JAN_5 + 10 * HOUR + 1_500_000),
        ("2024-01-05 10:00:01,123456789", JAN_5 + 10 * HOUR + 1_123_456),
        ("2024-01-05T10:00:00+09:00", JAN_5 + 1 * HOUR),
        ("2024-01-05T10:00:00-0330", JAN_5 + 13 * HOUR + HOUR // 2),
        ("2024-01-05T10:00:00+09", JAN_5 + 1 * HOUR),
        ("20240105T1000Z", JAN_5 + 10 * HOUR),
        ("20240105T100000+0900", JAN_5 + 1 * HOUR),
        (" 2024-01-05 ", JAN_5),
        ("2024-02-29", JAN_5 + 55 * 24 * HOUR),
    ],
)
def test_text_is_iso_8601(text: str, expected: int) -> None:
    assert read([text]) == [expected]


@pytest.mark.parametrize(
    "text",
    ["03/04/2024", "01/13/2024", "5.1.2024", "2024/01/05", "now", "today", "12:30", "NaT", "nan", "",
     " ", "2024-03-05 10:00 PST", "2024-03-05 10:00 UTC", "2024-01-05 10:00 +09:00", "2024W05",
     "2024-W05-1", "2024-005", "2024-01", "2024-1-5", "2023-02-29", "2024-13-01", "2024-01-05T24:00",
     "2024-01-05T10", "2024-01-05T10:60", "2024-01-05T10:00:60", "0000-01-01", "2024-01-05x",
     "2024-0105", "20240105T10:00", "Jan 5 2024", "2024-01-05T10:00+24:00", "--5", "1e", "0x5"],
)  # fmt: skip
def test_other_text_is_no_time(text: str) -> None:
    assert read([text]) == [None]


@pytest.mark.parametrize(
    ("unit", "number"),
    [("s", 1_704_412_800), ("ms", 1_704_412_800_000), ("us", JAN_5), ("ns", JAN_5 * 1000),
     ("date", 20240105)],
)  # fmt: skip
def test_numbers_are_of_the_unit_that_is_set(unit: str, number: int) -> None:
    for column in (
        pa.array([number, None]),
        pa.array([number, None], pa.uint64()),
        pa.array([Decimal(number), None]),
        pa.array([float(number), float("nan")]),
        pa.array([str(number), " "]),
        pa.array([f"+{number}.0", None]),
        pa.array([[number], []]),
    ):
        assert read(column, None, unit) == [JAN_5, None], column.type


def test_numbers_are_seconds_where_no_unit_is_set() -> None:
    assert read([5, -5]) == [5 * SECOND, -5 * SECOND]
    assert read(["5", "2.5", "1.7e9"]) == [5 * SECOND, 2_500_000, 1_700_000_000 * SECOND]
    assert read(["20240105"]) == [20240105 * SECOND]


def test_numbers_beyond_the_calendar_are_no_times() -> None:
    last = 253_402_300_799
    assert read([1_704_412_800_000, last, last + 1]) == [None, last * SECOND, None]
    assert read([2**63 - 1, -(2**63)]) == [None, None]
    assert read(pa.array([2**64 - 1], pa.uint64()), None, "ns") == [None]
    assert read([1e300, -1e300, float("inf")]) == [None] * 3
    assert read([20240230, 20241301, 2024, 202401050, 20240105.5], None, "date") == [None] * 5


def test_nanoseconds_stay_whole() -> None:
    assert read([1_700_000_000_123_456_789], None, "ns") == [1_700_000_000_123_456]
    assert read([1_700_000_000.123456]) == [1_700_000_000_123_456]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_stamps_of_every_unit_and_zone_are_instants(unit: str) -> None:
    of_unit = {"s": 10**6, "ms": 10**3, "us": 1}
    ticks = JAN_5 * 1000 if unit == "ns" else JAN_5 // of_unit[unit]
    for zone in (None, "UTC", "Asia/Tokyo", "+09:00"):
        column = pa.array([ticks, None], pa.int64()).cast(pa.timestamp(unit, zone))
        assert read(column) == [JAN_5, None]
        assert read(column.dictionary_encode(), None, "ms") == [JAN_5, None]


def test_dates_are_their_first_instant() -> None:
    for kind in (pa.date32(), pa.date64()):
        assert read(pa.array([datetime.date(2024, 1, 5), None], kind)) == [JAN_5, None]
    assert read(pa.array([2**62], pa.timestamp("s"))) == [None]
    assert read(pa.array([-(2**63)], pa.timestamp("us"))) == [None]  # NaT


def test_a_format_is_kept_to_the_letter() -> None:
    assert read(["05/01/2024", "31/31/2024", "2024-01-05", "now"], "%d/%m/%Y") == [
        JAN_5,
        *[None] * 3,
    ]
    assert read(["2024-01", "2024-01-05", "2024-01-05 junk"], "%Y-%m-%d") == [None, JAN_5, None]
    assert read(["05.01.2024 10:00 +0900"], "%d.%m.%Y %H:%M %z") == [JAN_5 + HOUR]
    assert read([20240105, None], "%Y%m%d") == [JAN_5, None]  # fmt: skip


FORMATS = ["%d/%m/%Y %H:%M", "%Y%m%d%H%M%S", "%m-%d-%Y  %H.%M.%S.%f", "%Y-%m-%dT%H:%M:%S%z", "%d %b %Y",
           "%Y %j", "%d.%m.%y %I:%M %p", "%%%Y%m%d"]  # fmt: skip


@given(
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2262, 1, 1)),
    st.sampled_from(FORMATS),
    st.data(),
)
def test_formats_are_read_as_the_standard_library_reads_them(
    instant: datetime.datetime, text_format: str, data: Any
) -> None:
    text = instant.replace(tzinfo=UTC).strftime(text_format)
    at = data.draw(st.integers(0, len(text)))
    for each in (
        text,
        text[:at] + data.draw(st.sampled_from(["", " ", "0", "9", "x"])) + text[at + 1 :],
    ):
        try:
            expected = utc_microseconds(datetime.datetime.strptime(each.strip(), text_format))
        except ValueError:
            expected = None
        assert read([each], text_format) == [expected], each


@pytest.mark.parametrize(
    ("text_format", "words"),
    [("%Q", "not a format"), ("%Y %Y %m %d", "not a format"), ("%H:%M", "expected a year"),
     ("%d/%m", "expected a year"), ("%", "not a format"), ("no time", "expected a year")],
)  # fmt: skip
def test_a_format_that_reads_no_year_is_refused(text_format: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_format(text_format)
    for good in (*FORMATS, "%Y-%m"):
        check_format(good)


@pytest.mark.parametrize(
    "column",
    [pa.array([True]), pa.array([1], pa.time64("us")), pa.array([1], pa.duration("s")), pa.array([{"a": 1}])],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_what_is_no_instant_is_refused(column: pa.Array) -> None:
    for text_format in (None, "%Y"):
        with pytest.raises(UnreadableType):
            microseconds(column, text_format)


def test_a_configured_instant_keeps_its_zone() -> None:
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    assert utc_microseconds(datetime.datetime(2024, 1, 5, 9, tzinfo=tokyo)) == JAN_5
    assert utc_microseconds(datetime.datetime(2024, 1, 5)) == JAN_5


@given(st.datetimes(timezones=st.timezones()))
def test_iso_text_of_any_zone_is_its_instant(instant: datetime.datetime) -> None:
    offset = instant.utcoffset()
    if offset is None or offset.seconds % 60 or not 2 < instant.year < 9999:
        return  # local mean times have offsets in seconds, which ISO 8601 does not write
    expected = (instant.astimezone(UTC) - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // (
        datetime.timedelta(microseconds=1)
    )
    assert read([instant.isoformat()]) == [expected]


TEXTS = st.one_of(
    st.none(),
    st.integers(-(10**19), 10**19).map(str),
    st.floats().map(str),
    st.datetimes().map(datetime.datetime.isoformat),
    st.text("0123456789-T:Z. ", max_size=12),
)


@given(st.lists(TEXTS, min_size=1, max_size=8), st.sampled_from(["s", "ms", "us", "ns", "date"]))
def test_a_time_is_read_alike_whatever_stands_beside_it(values: list[str], unit: Any) -> None:
    column = pa.array(values, pa.string())
    alone = [read(column.slice(at, 1), None, unit)[0] for at in range(len(column))]
    assert read(column, None, unit) == alone


def test_rows_stay_in_place() -> None:
    times, valid = microseconds(pa.array(["x", "2024-01-05", None, "5"]))
    np.testing.assert_array_equal(valid, [False, True, False, True])
    np.testing.assert_array_equal(times[valid], [JAN_5, 5 * SECOND])
