"""How a column tells times: Arrow's own types, numbers of some unit, ISO 8601, or text of another form."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.init import names
from pipelines.init.profile import Profile
from preprocessing.log.time_range import EARLIEST
from preprocessing.sources.scalars import UnreadableType
from preprocessing.sources.times import TimeUnit, microseconds

SHARE = 0.97
"""Of the values that are there, so many have to be times."""
_DATES = (
    "%Y/%m/%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m %d, %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d-%b-%Y",
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", ", %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_WHOLE = (
    "%Y-%m-%d %H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%Y%m%d%H%M%S",
    "%Y-%m-%d %H:%M:%S UTC",
    "%Y-%m-%d %H:%M:%S.%f UTC",
)
FORMATS = tuple(date + clock for date in _DATES for clock in _CLOCKS) + _WHOLE
_TRIED, _SAMPLE = 200, 20_000


@dataclass(frozen=True)
class TimeReading:
    """How a column is read as times.

    Attributes:
      unit: of numbers, None where the default (seconds) or the type says it.
      text_format: of text that is not ISO 8601.
      is_order: whether it counts the events of a user instead of telling when they were.
      reason: one sentence.
    """

    unit: TimeUnit | None
    text_format: str | None
    is_order: bool
    reason: str


def reading_of(profile: Profile) -> TimeReading | None:
    """How a column tells times, None where it does not.

    A day and a month that can be told apart by no value are taken as month first only where the log is then more in
    order of time.
    """
    if profile.has_lists or not profile.filled:
        return None
    column = profile.values.slice(0, _SAMPLE)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return TimeReading(None, None, False, "a column of times")
    if pa.types.is_boolean(kind):
        return None
    try:
        if profile.is_number:
            return _of_numbers(column) or _of_order(profile)
        return _of_text(column)
    except UnreadableType:
        return None


def _of_numbers(column: pa.Array) -> TimeReading | None:
    units: list[TimeUnit] = [unit for unit in get_args(TimeUnit) if _fits(column, None, unit)]
    if not units:
        return None
    unit = units[0]
    lies = _span(*microseconds(column, None, unit))
    if unit == "date":
        return TimeReading(unit, None, False, f"numbers that are dates, {lies}")
    named = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    return TimeReading(
        None if unit == "s" else unit,
        None,
        False,
        f"{named} since 1970, {lies}; no other unit fits",
    )


def _of_order(profile: Profile) -> TimeReading | None:
    if not names.score(profile.name, names.ORDERS) or not profile.is_whole:
        return None
    if profile.numbers.min() < 0 or profile.numbers.max() >= 10_000_000:
        return None
    return TimeReading(None, None, True, "counts events, there are no times")


def _of_text(column: pa.Array) -> TimeReading | None:
    if _fits(column, None, "s"):
        return TimeReading(
            None, None, False, f"text in ISO 8601, {_span(*microseconds(column, None, 's'))}"
        )
    few = pc.unique(column.drop_null()).slice(0, _TRIED)
    fitting = [text for text in FORMATS if _fits(few, text, "s")]
    fitting = [text for text in fitting if _fits(column, text, "s")]
    if not fitting:
        return None
    chosen = max(fitting, key=lambda text: (_in_order(column, text), -fitting.index(text)))
    lies = _span(*microseconds(column, chosen, "s"))
    doubt = ""
    if len(fitting) > 1:
        others = " or ".join(text for text in fitting if text != chosen)
        doubt = f"; {others} fits the sample as well, so look at it"
    return TimeReading(None, chosen, False, f"text of this form, {lies}{doubt}")


def _fits(column: pa.Array, text_format: str | None, unit: TimeUnit) -> bool:
    times, valid = microseconds(column, text_format, unit)
    given = len(column) - column.null_count
    if not given or valid.sum() < SHARE * given:
        return False
    low, high = np.quantile(times[valid], (0.01, 0.99))
    return bool(low >= EARLIEST and high <= time.time_ns() // 1000 + 86_400_000_000)


def _in_order(column: pa.Array, text_format: str) -> float:
    """Share of neighbours in order of time, forwards or backwards."""
    times, valid = microseconds(column, text_format, "s")
    steps = np.diff(times[valid])
    if not len(steps):
        return 0.0
    return round(float(max((steps >= 0).mean(), (steps <= 0).mean())), 2)


def _span(times: NDArray[np.int64], valid: NDArray[np.bool_]) -> str:
    days = times[valid].astype("datetime64[us]").astype("datetime64[D]")
    return f"from {days.min()} to {days.max()} in the sample"
