"""Exact counts of items in the log and in the training examples, summed over workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from preprocessing.splits import TimeHistogram


@dataclass
class LogStatistics:
    """What one pass over interactions counts; sizes grow with the catalogue, never with the log."""

    counters: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    times: TimeHistogram = field(default_factory=TimeHistogram)
    item_counts: dict[str, NDArray[Any]] = field(default_factory=dict)

    def count_items(
        self, name: str, rows: NDArray[Any], num_rows: int, weights: NDArray[Any] | None = None
    ) -> None:
        """Add occurrences (or weights) of item rows [n] to the counts [num_rows] of that name."""
        counted = np.bincount(rows, weights, num_rows)
        self.item_counts[name] = (
            self.item_counts[name] + counted if name in self.item_counts else counted
        )

    def merge(self, other: LogStatistics) -> LogStatistics:
        """Both together."""
        self.counters.update(other.counters)
        self.rejected.update(other.rejected)
        self.times = self.times.merge(other.times)
        for name, counts in other.item_counts.items():
            self.item_counts[name] = (
                self.item_counts[name] + counts if name in self.item_counts else counts
            )
        return self


class MergeStatistics(beam.CombineFn):
    """Sums the statistics of the workers."""

    def create_accumulator(self) -> LogStatistics:
        """Nothing counted."""
        return LogStatistics()

    def add_input(self, accumulator: LogStatistics, element: LogStatistics) -> LogStatistics:
        """One worker's counts."""
        return accumulator.merge(element)

    def merge_accumulators(self, accumulators: Iterable[LogStatistics]) -> LogStatistics:
        """Counts of several."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: LogStatistics) -> LogStatistics:
        """The sums."""
        return accumulator
