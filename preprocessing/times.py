"""Times of any column type as microseconds since 1970, value by value; how large a number is decides nothing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.scalars import NUMBER, UnreadableType, numbers, scalars, strings, true

TimeUnit = Literal["s", "ms", "us", "ns", "date"]
Times = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Microseconds since 1970 [rows], and a mask [rows] of those that could be read."""
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_800_000_000
"""The years 1 to 9999."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1, "day": 86_400 * 10**6}
_EXPECTED = "timestamps, dates, numbers or text"
_ZONE = r"(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?"
_ISO = (
    r"^(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})"
    rf"(?::(?P<second>\d{{2}})(?:[.,](?P<part>\d+))?)?{_ZONE})?$",
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T(?P<hour>\d{2})(?P<minute>\d{2})"
    rf"(?:(?P<second>\d{{2}})(?:[.,](?P<part>\d+))?)?{_ZONE}$",
)
"""The extended and the basic format of calendar dates; a blank may stand for the T of the first."""


def microseconds(column: pa.Array, text_format: str | None = None, unit: TimeUnit = "s") -> Times:
    """Times as microseconds since 1970.

    Numbers, also those in text, count ``unit`` since 1970, or are dates like 20240105. Other text is ISO 8601. With
    ``text_format`` text and whole numbers are of this format instead. Times without a zone are UTC.

    Args:
      column: any scalar column [rows], or lists of which the first value counts.
      text_format: of strptime.
      unit: of numbers.

    Raises:
      UnreadableType: times of day, durations, booleans, structs, maps.
    """
    column = scalars(column)
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _counted(*_integers(column.cast(pa.int64())), kind.unit)
    if pa.types.is_date64(kind):
        return _counted(*_integers(column.cast(pa.int64())), "ms")
    if pa.types.is_date32(kind):
        return _counted(*_integers(column.cast(pa.int32())), "day")
    if pa.types.is_boolean(kind):
        raise UnreadableType(kind, _EXPECTED)
    if text_format is not None:
        return _formatted(strings(column), text_format)
    if pa.types.is_integer(kind):
        values, valid = _integers(column)
        return _counted(values, valid & ((values >= 0) | (not pa.types.is_uint64(kind))), unit)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _fractions(numbers(column)[0], unit)
    try:
        return _text(pc.utf8_trim_whitespace(strings(column)), unit)
    except UnreadableType as error:
        raise UnreadableType(kind, _EXPECTED) from error


def iso_8601(text: pa.Array) -> Times:
    """Calendar dates and times of ISO 8601; in UTC where no zone is given."""
    micros, valid = np.zeros(len(text), np.int64), np.zeros(len(text), bool)
    for pattern in _ISO:
        groups = pc.extract_regex(text, pattern)
        at = np.flatnonzero(pc.is_valid(groups).to_numpy(zero_copy_only=False))
        if len(at):
            micros[at], valid[at] = _instants(groups.take(pa.array(at)))
    return micros, valid


def utc_microseconds(instant: datetime) -> int:
    """Microseconds since 1970 of a configured instant; one without a zone is UTC."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _text(text: pa.Array, unit: TimeUnit) -> Times:
    times, valid = iso_8601(text)
    is_whole = true(pc.match_substring_regex(text, r"^[+-]?\d{1,18}$"))
    is_other = true(pc.match_substring_regex(text, NUMBER)) & ~is_whole
    whole = pc.utf8_ltrim(text.filter(pa.array(is_whole)), characters="+").cast(pa.int64())
    times[is_whole], valid[is_whole] = _counted(*_integers(whole), unit)
    others = numbers(text.filter(pa.array(is_other)))[0]
    times[is_other], valid[is_other] = _fractions(others, unit)
    return times, valid


def _integers(column: pa.Array) -> Times:
    """Whole numbers as they are, and which of them are there."""
    valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
    values = pc.fill_null(column.cast(pa.int64(), safe=False), 0).to_numpy(zero_copy_only=False)
    return values, valid


def _counted(values: NDArray[np.int64], valid: NDArray[np.bool_], unit: str) -> Times:
    if unit == "date":
        return _dates(values, valid)
    if unit == "ns":
        values, each = values // 1000, 1
    else:
        each = _MICROSECONDS[unit]
    valid = valid & (values >= FIRST // each) & (values < LAST // each)
    return np.where(valid, values, 0) * each, valid


def _fractions(values: NDArray[np.float64], unit: TimeUnit) -> Times:
    if unit == "date":
        whole = np.isfinite(values) & (values == np.floor(values))
        return _dates(np.where(whole, values, 0).astype(np.int64), whole)
    micros = values * 1e-3 if unit == "ns" else values * _MICROSECONDS[unit]
    valid = (micros >= FIRST) & (micros < LAST)  # false for NaN
    return np.rint(np.where(valid, micros, 0)).astype(np.int64), valid


def _dates(values: NDArray[np.int64], valid: NDArray[np.bool_]) -> Times:
    """Numbers like 20240105."""
    valid = valid & (values >= 10_101) & (values <= 99_991_231)
    values = np.where(valid, values, 19_700_101)
    days, real = _days(values // 10_000, values // 100 % 100, values % 100)
    return days * _MICROSECONDS["day"], valid & real


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> Times:
    """Days since 1970, and which of the dates there are."""
    real = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = np.where(real, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(real, day - 1, 0)
    real &= days.astype("datetime64[M]") == months
    return days.astype(np.int64), real


def _instants(groups: pa.StructArray) -> Times:
    def whole(name: str) -> NDArray[np.int64]:
        digits = groups.field(name)
        return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()

    days, valid = _days(whole("year"), whole("month"), whole("day"))
    hour, minute, second = whole("hour"), whole("minute"), whole("second")
    part = pc.utf8_slice_codeunits(groups.field("part"), 0, 6)
    micro = pc.utf8_rpad(part, 6, "0").cast(pa.int64()).to_numpy()
    zone = groups.field("zone")
    sign = np.where(true(pc.starts_with(zone, "-")), -1, 1)
    figures = pc.replace_substring_regex(zone, r"[Z:+-]", "")
    figures = pc.utf8_rpad(figures, 4, "0").cast(pa.int64()).to_numpy()
    ahead, over = figures // 100, figures % 100
    valid &= (hour < 24) & (minute < 60) & (second < 60) & (ahead < 24) & (over < 60)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - sign * (ahead * 60 + over) * 60
    return seconds * 10**6 + micro, valid


def _formatted(text: pa.Array, text_format: str) -> Times:
    """By the standard library: pandas takes other text than asked for where a format resembles ISO 8601."""
    encoded = text.dictionary_encode()
    found = [_parsed(each, text_format) for each in encoded.dictionary.to_pylist()]
    each = pa.array(found, pa.int64()).take(encoded.indices)
    return _integers(each)


def _parsed(text: str, text_format: str) -> int | None:
    try:
        return utc_microseconds(datetime.strptime(text.strip(), text_format))
    except (ValueError, OverflowError):
        return None
