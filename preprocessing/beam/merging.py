"""Adding up in Beam what each worker has counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import apache_beam as beam


class Tally(Protocol):
    """What counts a part, and of which two make one."""

    def merge(self, other: Any) -> Any:
        """Adds the other one, and gives back the sum."""


class Merge(beam.CombineFn):
    """Merges the tallies of all workers, in any order.

    Args:
      empty: makes a tally of nothing; the result where no worker has one.
    """

    def __init__(self, empty: Callable[[], Tally]) -> None:
        super().__init__()
        self._empty = empty

    def create_accumulator(self) -> Tally:
        """Nothing counted."""
        return self._empty()

    def add_input(self, accumulator: Tally, element: Tally) -> Tally:
        """One worker's tally."""
        merged: Tally = accumulator.merge(element)
        return merged

    def merge_accumulators(self, accumulators: Iterable[Tally]) -> Tally:
        """Tallies of several."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged = merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Tally) -> Tally:
        """The sums."""
        return accumulator
