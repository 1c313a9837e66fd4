"""Whether a log lies where logs lie: a wrong unit or column of times is told of before any work is done with it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from preprocessing.base.errors import LongtailError
from preprocessing.config import DataConfig, DataSections
from preprocessing.log.splits import TimeHistogram
from preprocessing.sources.readers import Unit, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.sources.scalars import reading
from preprocessing.sources.times import TimeUnit, microseconds

_SECOND, _DAY = 10**6, 86_400 * 10**6
EARLIEST = int(np.datetime64("1980-01-01", "us").astype(np.int64))
SHORTEST, FEW = 120 * _SECOND, 20
"""A log of more than ``FEW`` events is longer than this."""
ALONE, FAR = 0.01, 365 * _DAY
"""At most this share of the events, and so far from all others, are outliers."""
_ACCEPT = "to accept the times as they are, set data.any_time_range: true"


@dataclass
class Findings:
    """What is wrong with the range of a log, one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look(units: Sequence[Unit], config: DataSections) -> None:
    """Refuse times of another unit than configured, by the first rows of some units; see ``peek``."""
    columns = [config.data.columns.timestamp]
    for unit in dict.fromkeys((units[0], units[len(units) // 2], units[-1])):
        batches = read_unit(unit, columns, config.preprocess.batch_rows, RowOutcomes(LOG))
        for rows in itertools.islice(batches, 1):
            peek(rows.batch.column(0), config.data, unit.path)


def check_range(times: TimeHistogram, data: DataConfig, console: Console) -> None:
    """Refuse or warn by what ``examine`` finds, where the range is not accepted as it is.

    Raises:
      LongtailError: the log lies where none does.
    """
    if data.any_time_range:
        return
    found = examine(times)
    if found.errors:
        raise LongtailError(f"{data.interactions.path}: {found.errors[0]}")
    for warning in found.warnings:
        console.print(f"  [yellow]times[/yellow]: {warning}", highlight=False)


def examine(log: TimeHistogram, now: int | None = None) -> Findings:
    """Judge the whole log.

    Args:
      log: how many events each instant has.
      now: microseconds since 1970, default: the clock.
    """
    found = Findings()
    values, counts = log.values, log.counts
    if not len(values):
        return found
    latest, total = _latest(now), int(counts.sum())
    running = np.cumsum(counts)
    low, middle, high = (
        int(values[np.searchsorted(running, share * total)]) for share in (ALONE, 0.5, 1 - ALONE)
    )
    if not EARLIEST <= middle <= latest:
        found.errors.append(
            f"most events of the log lie {_before_or_after(middle)}, from {_day(low)} to {_day(high)}: set "
            "data.timestamp_unit for times that are numbers or data.timestamp_format for text, or name another "
            f"data.columns.timestamp; {_ACCEPT}"
        )
    elif high - low <= SHORTEST and total > FEW:
        found.errors.append(
            f"the {total:,} events of the log lie within {(high - low) / _SECOND:g} seconds of {_instant(middle)}: "
            "histories and splits need times; name another data.columns.timestamp or set data.timestamp_unit; "
            f"{_ACCEPT}"
        )
    else:
        found.warnings += _outside(values, counts, latest)
        found.warnings += _apart(values, running)
    return found


def peek(column: pa.Array, data: DataConfig, place: str, now: int | None = None) -> None:
    """Refuse times that are numbers of another unit than configured; cheap, on the first rows of a log.

    Args:
      column: times of some rows.
      data: the section of the configuration.
      place: the file, for the error.
      now: microseconds since 1970, default: the clock.

    Raises:
      LongtailError: the rows lie outside of what is plausible, and inside as another unit.
    """
    name, latest = data.columns.timestamp, _latest(now)
    if data.any_time_range or data.timestamp_format is not None:
        return
    unit: TimeUnit = data.timestamp_unit or "s"

    def middle(as_unit: TimeUnit) -> int | None:
        with reading(place, name, "time"):
            times, valid = microseconds(column, None, as_unit)
        return int(np.sort(times[valid])[valid.sum() // 2]) if valid.mean() > 0.5 else None

    if not len(column):
        return
    read = middle(unit)
    if read is not None and EARLIEST <= read <= latest:
        return
    for other in get_args(TimeUnit):
        fits = middle(other) if other != unit else None
        if fits is not None and EARLIEST <= fits <= latest:
            lie = "are beyond the year 9999" if read is None else f"lie about {_day(read)}"
            raise LongtailError(
                f"{place}: times of column '{name}' {lie} where numbers are of data.timestamp_unit: {unit}, and "
                f"about {_day(fits)} as '{other}': set data.timestamp_unit: {other}; {_ACCEPT}"
            )


def _latest(now: int | None) -> int:
    return (time.time_ns() // 1000 if now is None else now) + _DAY


def _outside(values: NDArray[Any], counts: NDArray[Any], latest: int) -> Iterable[str]:
    for name, mask in (("before 1980", values < EARLIEST), ("in the future", values > latest)):
        if mask.any():
            found = values[mask]
            yield (
                f"{int(counts[mask].sum()):,} events lie {name}, from {_day(int(found[0]))} to "
                f"{_day(int(found[-1]))}: correct or drop them in the source"
            )


def _apart(values: NDArray[Any], running: NDArray[Any]) -> Iterable[str]:
    """Few events that lie far from all others; a split or a recent count by time would be theirs."""
    total = int(running[-1])
    for at in np.flatnonzero(np.diff(values) >= FAR):
        before = int(running[at])
        for few, side, end in (
            (before, "before", values[0]),
            (total - before, "after", values[-1]),
        ):
            if few <= max(1, ALONE * total) and few < total / 2:
                years = (values[at + 1] - values[at]) / FAR
                yield (
                    f"{few:,} of {total:,} events lie {years:.1f} years {side} all others, the "
                    f"{'first' if side == 'before' else 'last'} on {_day(int(end))}: correct or drop them in the source"
                )


def _before_or_after(instant: int) -> str:
    return "before 1980" if instant < EARLIEST else "in the future"


def _day(instant: int) -> str:
    return str(np.datetime64(instant, "us").astype("datetime64[D]"))


def _instant(instant: int) -> str:
    return str(np.datetime64(instant, "us").astype("datetime64[s]"))
