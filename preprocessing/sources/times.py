"""Times of any column type as microseconds since 1970, value by value; how large a number is decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.sources.scalars import NUMBER, UnreadableType, numbers, scalars, strings, true

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
_DIRECTIVES = {
    "%Y": r"(?P<year>\d{4})",
    "%m": r"(?P<month>1[0-2]|0[1-9]|[1-9])",
    "%d": r"(?P<day>3[01]|[12]\d|0[1-9]|[1-9]| [1-9])",
    "%H": r"(?P<hour>2[0-3]|[01]\d|\d)",
    "%M": r"(?P<minute>[0-5]\d|\d)",
    "%S": r"(?P<second>[0-5]\d|\d)",
    "%f": r"(?P<part>\d{1,6})",
    "%z": r"(?P<zone>Z|[+-]\d{2}:?\d{2})",
    "%%": "%",
}
"""As strptime has them; a month and a day have to be in the format."""


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
    return _matched(text, _ISO)


def check_format(text_format: str) -> None:
    """Raises ValueError where strptime cannot read a format, or reads no year by it."""
    sample = datetime(2024, 11, 25, 22, 33, 44, tzinfo=timezone.utc)
    try:
        read = datetime.strptime(sample.strftime(text_format), text_format)
    except (ValueError, re.error) as error:
        raise ValueError(f"timestamp_format: not a format of strptime ({error})") from error
    if read.year != sample.year:
        raise ValueError(f"timestamp_format: expected a year in it, received '{text_format}'")


def _matched(text: pa.Array, patterns: Iterable[str]) -> Times:
    micros, valid = np.zeros(len(text), np.int64), np.zeros(len(text), bool)
    for pattern in patterns:
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
    names = {each.name for each in groups.type}
    empty = pa.array([""] * len(groups), pa.large_string())

    def group(name: str) -> pa.Array:
        return groups.field(name) if name in names else empty

    def whole(name: str) -> NDArray[np.int64]:
        digits = group(name)
        return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()

    days, valid = _days(whole("year"), whole("month"), whole("day"))
    hour, minute, second = whole("hour"), whole("minute"), whole("second")
    part = pc.utf8_slice_codeunits(group("part"), 0, 6)
    micro = pc.utf8_rpad(part, 6, "0").cast(pa.int64()).to_numpy()
    zone = group("zone")
    sign = np.where(true(pc.starts_with(zone, "-")), -1, 1)
    figures = pc.replace_substring_regex(zone, r"[Z:+-]", "")
    figures = pc.utf8_rpad(figures, 4, "0").cast(pa.int64()).to_numpy()
    ahead, over = figures // 100, figures % 100
    valid &= (hour < 24) & (minute < 60) & (second < 60) & (ahead < 24) & (over < 60)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - sign * (ahead * 60 + over) * 60
    return seconds * 10**6 + micro, valid


def _formatted(text: pa.Array, text_format: str) -> Times:
    """By patterns where the format is made of figures, else by the standard library.

    Not by pandas, which takes other text than asked for where a format resembles ISO 8601.
    """
    pattern = _pattern(text_format)
    if pattern is not None:
        return _matched(pc.utf8_trim_whitespace(text), (pattern,))
    encoded = text.dictionary_encode()
    found = [_parsed(each, text_format) for each in encoded.dictionary.to_pylist()]
    return _integers(pa.array(found, pa.int64()).take(encoded.indices))


def _pattern(text_format: str) -> str | None:
    """A regular expression of the format, None where it holds names, halves of days or a part twice."""
    parts = re.findall(r"%.|[^%]+", text_format)
    directives = [part for part in parts if part.startswith("%")]
    known = all(each in _DIRECTIVES for each in directives)
    if (
        not known
        or len(set(directives)) < len(directives)
        or not {"%Y", "%m", "%d"} <= set(directives)
    ):
        return None
    return "^" + "".join(_DIRECTIVES.get(part) or _literal(part) for part in parts) + "$"


def _literal(text: str) -> str:
    return "".join(
        r"\s+" if part.isspace() else re.escape(part) for part in re.split(r"(\s+)", text)
    )


def _parsed(text: str, text_format: str) -> int | None:
    try:
        return utc_microseconds(datetime.strptime(text.strip(), text_format))
    except (ValueError, OverflowError):
        return None
