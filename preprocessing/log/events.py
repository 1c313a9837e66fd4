"""Logs of several kinds of events: which rows are of the log, and what each kind is worth."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console

from preprocessing.base.errors import LongtailError
from preprocessing.config import DataConfig
from preprocessing.sources.columns import column_of
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.scalars import reading, strings, true

MISSING = "missing event"
MOST_KINDS = 1_000
"""Kinds of events that are not listed: more are no kinds, but values of another column."""
_UNLISTED, _WORTHLESS = "event '{}', which data.events does not list", "event '{}' of weight 0"
_LONGEST, _TOLD = 100, 5
"""Characters of a name, and names, that are shown."""


def columns_of(data: DataConfig) -> list[str]:
    """The column of the kinds, in a list that is empty without one."""
    return [data.columns.event] if data.columns.event else []


def is_listed(rows: Rows, data: DataConfig) -> NDArray[np.bool_]:
    """Which rows [n] are of a kind that the configuration lists; all of them, where there are no kinds."""
    if data.events is None:
        return np.ones(rows.batch.num_rows, np.bool_)
    return true(pc.is_in(_names(rows, data), pa.array(list(data.events), pa.large_string())))


def without_unlisted(rows: Rows, data: DataConfig, outcomes: RowOutcomes) -> Rows:
    """The rows that are listed or say no kind; the others are set aside, each kind counted by its name.

    They are not looked at further: a search has no item, and is no error.

    Raises:
      LongtailError: there are so many kinds that they are none.
    """
    if data.events is None:
        return rows
    names = _names(rows, data)
    other = ~is_listed(rows, data) & true(pc.is_valid(names))
    if not other.any():
        return rows
    counted = pc.value_counts(names.filter(pa.array(other))).to_pylist()
    reasons: Counter[str] = Counter()
    for each in counted:
        reasons[_UNLISTED.format(each["values"][:_LONGEST])] += each["counts"]
    outcomes.leave_out(reasons)
    require_few(outcomes, data)
    return rows.take(np.flatnonzero(~other))


def weights(rows: Rows, data: DataConfig) -> NDArray[np.float64]:
    """What each row [n] is worth, NaN where it says no kind."""
    assert data.events is not None
    found = pc.index_in(_names(rows, data), pa.array(list(data.events), pa.large_string()))
    worth = np.array([*data.events.values(), np.nan])
    return worth[pc.fill_null(found, len(data.events)).to_numpy(zero_copy_only=False)]


def worthless(rows: Rows, data: DataConfig, is_worthless: NDArray[np.bool_]) -> dict[str, Any]:
    """By kind, which of some rows [n] are set aside because their kind has weight 0."""
    names = _names(rows, data)
    found = [name for name, weight in (data.events or {}).items() if weight <= 0]
    masks = {name: is_worthless & true(pc.equal(names, name)) for name in found}
    return {_WORTHLESS.format(name): mask for name, mask in masks.items() if mask.any()}


def require_few(outcomes: RowOutcomes, data: DataConfig) -> None:
    """Whether the kinds that are not listed can be kinds.

    Raises:
      LongtailError: there are too many of them.
    """
    found = _unlisted(outcomes)
    if len(found) > MOST_KINDS:
        raise LongtailError(
            f"{data.interactions.path}: column '{data.columns.event}' of data.columns.event holds more than "
            f"{MOST_KINDS:,} kinds of events that data.events does not list, such as {_told(found)}: name the column "
            "that says what kind of event a row is"
        )


def tell(outcomes: RowOutcomes, interactions: int, data: DataConfig, console: Console) -> None:
    """Say what was set aside.

    Args:
      outcomes: of the whole log.
      interactions: rows that are positives.
      data: the section of the configuration.
      console: for people.

    Raises:
      LongtailError: no row is a positive, or what is not listed can be no kind of event.
    """
    if data.events is None:
        return
    require_few(outcomes, data)
    found = _unlisted(outcomes)
    if found:
        console.print(
            f"  set aside {found.total():,} of {outcomes.rows:,} rows of events that data.events does not list: "
            f"{_told(found)}",
            highlight=False,
            markup=False,
        )
    if not interactions:
        held = _told(found) if found else "none that is not listed"
        raise LongtailError(
            f"{data.interactions.path}: no row is an event of data.events with a weight above 0 "
            f"({', '.join(map(repr, data.events))}); column '{data.columns.event}' holds {held}: correct data.events, "
            "in which upper and lower case count"
        )


def _unlisted(outcomes: RowOutcomes) -> Counter[str]:
    before, after = _UNLISTED.split("{}")
    return Counter(
        {
            reason.removeprefix(before).removesuffix(after): count
            for reason, count in outcomes.set_aside.items()
            if reason.endswith(after)
        }
    )


def _told(found: Counter[str]) -> str:
    most = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    more = f" and {len(most) - _TOLD:,} more" if len(most) > _TOLD else ""
    return ", ".join(f"{name!r} ({count:,})" for name, count in most[:_TOLD]) + more


def _names(rows: Rows, data: DataConfig) -> pa.Array:
    name = str(data.columns.event)
    with reading(rows.path, name, "kind of event"):
        return pc.utf8_trim_whitespace(strings(column_of(rows.batch, name)))
