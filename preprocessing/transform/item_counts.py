"""Exact counts of items in the log and in the training examples, summed over workers.

What a worker holds and sends grows with the items that it met and never with the catalogue; only the main process
spreads the sums over all items, once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.config import AS_OF
from preprocessing.log.splits import TimeHistogram

_OF_TRAINING = ("examples", "events", *(f"recent_{name}" for name in AS_OF))
_WAITING = 1 << 16
"""Entries that wait to be merged at least: sorting for every partition would cost the square of their number."""


class ItemCounts:
    """Sums by item row, held as the rows that occurred, and their sums."""

    def __init__(self) -> None:
        self._merged = (np.zeros(0, np.int32), np.zeros(0, np.int64))
        self._waiting: list[tuple[NDArray[np.int32], NDArray[Any]]] = []

    def add(self, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> ItemCounts:
        """Adds 1, or the weights, for each of the rows [n]."""
        self._wait(*_summed(rows, weights))
        return self

    def merge(self, other: ItemCounts) -> ItemCounts:
        """Both together."""
        for rows, sums in (other._merged, *other._waiting):
            self._wait(rows, sums)
        return self

    def sums(self) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """The rows that occurred, rising, and their sums: int64, or float64 with weights."""
        if self._waiting:
            parts = [self._merged, *self._waiting]
            rows, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
            self._merged, self._waiting = _summed(rows, sums), []
        return self._merged

    def dense(self, num_rows: int) -> NDArray[Any]:
        """The sum of every row [num_rows], 0 where none occurred."""
        rows, sums = self.sums()
        found: NDArray[Any] = np.zeros(num_rows, sums.dtype)
        found[rows] = sums
        return found

    def __getstate__(self) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Merged, so that what is sent is as small as it can be."""
        return self.sums()

    def __setstate__(self, state: tuple[NDArray[np.int32], NDArray[Any]]) -> None:
        self._merged, self._waiting = state, []

    def _wait(self, rows: NDArray[np.int32], sums: NDArray[Any]) -> None:
        if len(rows) or sums.dtype != self._merged[1].dtype:  # sums of nothing have a type as well
            self._waiting.append((rows, sums))
        # Merged when as much waits as was merged before: each entry is sorted a few times in all.
        if sum(len(r) for r, _ in self._waiting) > max(len(self._merged[0]), _WAITING):
            self.sums()


@dataclass
class LogStatistics:
    """What one pass over interactions counts; sizes grow with the items that it met, never with the log."""

    counters: Counter[str] = field(default_factory=Counter)
    times: TimeHistogram = field(default_factory=TimeHistogram)
    item_counts: dict[str, ItemCounts] = field(default_factory=dict)

    def count_items(
        self, name: str, rows: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> None:
        """Add occurrences (or weights) of item rows [n] to the counts of that name."""
        self.item_counts.setdefault(name, ItemCounts()).add(rows, weights)

    def item_table(self, num_items: int) -> pa.Table:
        """Rows 1 to N as ``item``, and their counts of training, 0 where an item did not occur."""
        counts = {name: self.item_counts[name].dense(num_items + 1)[1:] for name in _OF_TRAINING}
        return pa.table({"item": np.arange(1, num_items + 1), **counts})

    def merge(self, other: LogStatistics) -> LogStatistics:
        """Both together."""
        self.counters.update(other.counters)
        self.times = self.times.merge(other.times)
        for name, counts in other.item_counts.items():
            self.item_counts.setdefault(name, ItemCounts()).merge(counts)
        return self


def _summed(
    rows: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """The distinct rows, rising, and the sum of each one's weights; integers stay integers."""
    if weights is None:
        distinct, counts = np.unique(rows, return_counts=True)
        return distinct.astype(np.int32), counts.astype(np.int64)
    distinct, place = np.unique(rows, return_inverse=True)
    sums = np.zeros(len(distinct), weights.dtype)
    np.add.at(sums, place, weights)
    return distinct.astype(np.int32), sums
