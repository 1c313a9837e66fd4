"""What became of each row of a source: kept, set aside on purpose, or rejected with the reason.

Rows that were read are those that were kept, set aside or rejected, in every pass over every source. A row that was
kept although something in it was changed or ignored is *noted* beside that.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailFailure
from preprocessing.features import FeatureList, Kind
from preprocessing.sources.feature_values import FeatureValues

LOG, ITEMS, USERS = "log", "items", "users"
MALFORMED = "malformed row"
LISTED = 1_000
"""Rows that are listed a source and reason, the first ones; all of them are counted."""
_SHOWN = 300
"""Characters of a value, and values of a list, that a listed row shows."""

Masks = Mapping[str, NDArray[np.bool_]]
"""By reason, which rows [n] it holds of."""
Listed = tuple[int, int, dict[str, Any]]
"""A row in a list: the number of its unit, its number in the file, and what is written of it."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, and where they stand in it."""

    batch: pa.RecordBatch
    path: str
    ordinal: int
    """Of the unit of work among those of the source."""
    numbers: NDArray[np.int64]
    """Rows of the file before each of them [n]; malformed ones count, blank lines and headers do not."""
    lines: NDArray[np.int64] | None = None
    """Lines of text, from 1."""

    @classmethod
    def following(cls, batch: pa.RecordBatch, path: str, ordinal: int = 0, first: int = 0) -> Rows:
        """Rows without a gap, from the one that ``first`` others stand before."""
        return cls(batch, path, ordinal, np.arange(first, first + batch.num_rows))

    def take(self, at: NDArray[Any]) -> Rows:
        """Some of the rows by their places [m] in the batch."""
        lines = None if self.lines is None else self.lines[at]
        return Rows(self.batch.take(pa.array(at)), self.path, self.ordinal, self.numbers[at], lines)

    def in_batches(self, rows: int) -> Iterator[Rows]:
        """The same in batches of at most so many rows."""
        for first in range(0, self.batch.num_rows, rows):
            part = slice(first, first + rows)
            lines = None if self.lines is None else self.lines[part]
            batch, numbers = self.batch.slice(first, rows), self.numbers[part]
            yield Rows(batch, self.path, self.ordinal, numbers, lines)

    @property
    def order(self) -> NDArray[np.int64]:
        """The place of each row [n] in the whole source."""
        return (self.ordinal << 40) + self.numbers

    def place(self, at: int) -> dict[str, Any]:
        """Where a row is found: file, row from 1 and, of text, line."""
        line = {} if self.lines is None else {"line": int(self.lines[at])}
        return {"source": self.path, "row": int(self.numbers[at]) + 1, **line}


@dataclass
class RowOutcomes:
    """The tally of one source, or of a part of it; tallies add up in any order."""

    source: str
    rows: int = 0
    kept: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    listed: dict[tuple[str, str], list[Listed]] = field(default_factory=dict)
    """The first rows by ``("rejected" or "noted", reason)``."""
    features: dict[str, FeatureValues] = field(default_factory=dict)
    """What the rows that are kept hold of each feature."""

    def settle(
        self,
        rows: Rows,
        rejected: Masks,
        set_aside: Masks | None = None,
        noted: Masks | None = None,
    ) -> NDArray[np.bool_]:
        """Give each row one outcome and count it.

        Args:
          rows: n of them.
          rejected: of several reasons that hold of a row the first counts.
          set_aside: why rows that are not rejected are left out on purpose.
          noted: what was changed or ignored; counts of the rows that are kept, all reasons of each.

        Returns:
          Which rows [n] are kept.
        """
        self.rows += rows.batch.num_rows
        left = np.ones(rows.batch.num_rows, np.bool_)
        for reason, mask in rejected.items():
            self._tell("rejected", reason, rows, left & mask)
            left &= ~mask
        for reason, mask in (set_aside or {}).items():
            self._count(self.set_aside, reason, int((left & mask).sum()))
            left &= ~mask
        self.kept += int(left.sum())
        for reason, mask in (noted or {}).items():
            self._tell("noted", reason, rows, left & mask)
        return left

    def leave_out(self, reasons: Mapping[str, int]) -> None:
        """Set rows aside that nobody looks at further, so many of each reason."""
        self.rows += sum(reasons.values())
        self.set_aside.update(reasons)

    def observe(self, features: FeatureList, kept: pa.RecordBatch) -> None:
        """Count the values of the features' raw columns in rows that are kept."""
        for feature in features:
            scaled = feature.kind is Kind.NUMERIC and not feature.buckets
            found = self.features.setdefault(feature.name, FeatureValues(scaled))
            found.add(kept.column(kept.schema.get_field_index(feature.name)))

    def malformed(self, ordinal: int, number: int, place: dict[str, Any], text: str) -> None:
        """A row that could not be cut into its columns; ``place`` may say ``detail``."""
        self.rows += 1
        self.rejected[MALFORMED] += 1
        entry = {"reason": MALFORMED, **place, "text": text[:_SHOWN]}
        self._list("rejected", MALFORMED, [(ordinal, number, entry)])

    def withdraw(self, reason: str, ordinal: int, number: int, entry: dict[str, Any]) -> None:
        """Reject a row that was kept before, as only a look at all rows of a source can tell."""
        self.kept -= 1
        self.rejected[reason] += 1
        self._list("rejected", reason, [(ordinal, number, {"reason": reason, **entry})])

    def merge(self, other: RowOutcomes) -> RowOutcomes:
        """Both together."""
        self.rows += other.rows
        self.kept += other.kept
        for name in ("set_aside", "rejected", "noted"):
            getattr(self, name).update(getattr(other, name))
        for (outcome, reason), entries in other.listed.items():
            self._list(outcome, reason, entries)
        for name, values in other.features.items():
            self.features.setdefault(name, FeatureValues(values.scaled)).merge(values)
        return self

    def check(self) -> None:
        """Raises LongtailFailure where rows were lost or counted twice."""
        left_out = sum(self.rejected.values()) + sum(self.set_aside.values())
        if self.rows != self.kept + left_out:
            raise LongtailFailure(
                f"{self.source}: {self.rows:,} rows were read, but {self.kept:,} kept and {left_out:,} left out: "
                "a fault of Longtail, please report it"
            )

    def summary(self) -> dict[str, Any]:
        """The counts as the manifest has them."""
        counts: dict[str, Any] = {"rows": self.rows, "kept": self.kept}
        for name in ("set_aside", "rejected", "noted"):
            counts[name] = dict(sorted(getattr(self, name).items()))
        return counts

    def entries(self, outcome: str) -> list[dict[str, Any]]:
        """What is written of the listed rows, in the order of the source."""
        found = [e for (kind, _), each in self.listed.items() if kind == outcome for e in each]
        return [entry for _, _, entry in sorted(found, key=lambda each: each[:2])]

    def _tell(self, outcome: str, reason: str, rows: Rows, mask: NDArray[np.bool_]) -> None:
        at = np.flatnonzero(mask)
        self._count(getattr(self, outcome), reason, len(at))
        values = readable(rows.batch, at[:LISTED])
        self._list(
            outcome,
            reason,
            [
                (
                    rows.ordinal,
                    int(rows.numbers[row]),
                    {"reason": reason, **rows.place(row), "values": each},
                )
                for row, each in zip(at[:LISTED], values, strict=True)
            ],
        )

    def _list(self, outcome: str, reason: str, entries: list[Listed]) -> None:
        if not entries:
            return
        known = self.listed.get((outcome, reason), [])
        together = sorted([*known, *entries], key=lambda each: each[:2])
        self.listed[outcome, reason] = together[:LISTED]

    @staticmethod
    def _count(counter: Counter[str], reason: str, number: int) -> None:
        if number:
            counter[reason] += number


def readable(batch: pa.RecordBatch, at: NDArray[Any]) -> list[dict[str, Any]]:
    """The values of some rows for people: long ones cut, and whatever Python cannot hold as text."""
    if not len(at):
        return []
    columns = [_values(batch.column(i).take(pa.array(at))) for i in range(batch.num_columns)]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array) -> list[Any]:
    try:
        return [_short(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, LookupError, pa.ArrowException):
        # What Python has no value for: a time after the year 9999, text that is not UTF-8, an unknown zone.
        return [_readable(column.slice(at, 1)) for at in range(len(column))]


def _readable(one: pa.Array) -> Any:
    """A value of its own, or its bytes, or words that say what it is."""
    plain = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(one.type)
    if plain is None and pa.types.is_temporal(one.type):
        plain = pa.int32() if one.type.bit_width == 32 else pa.int64()
    with contextlib.suppress(ValueError, OverflowError, LookupError, pa.ArrowException):
        value = (one.view(plain) if plain else one)[0].as_py()
        return _short(str(value) if isinstance(value, int) else value)
    return f"a value of type {one.type} that cannot be shown"


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(each) for each in value[:_SHOWN]]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    return str(value)[:_SHOWN]
