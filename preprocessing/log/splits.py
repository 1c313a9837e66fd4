"""Which interactions train, validate and test, and who has too few of them; pure functions on sorted arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.sources.times import utc_microseconds
from preprocessing.split_config import SplitConfig

TRAIN, VALIDATION, TEST, DROPPED = 0, 1, 2, -1


@dataclass
class TimeHistogram:
    """How many interactions each instant has; coarsened by powers of two above ``limit`` distinct instants.

    Exact while the log has at most ``limit`` distinct times; beyond, a split falls on a multiple of ``grain``
    microseconds. The size is bounded, whatever the number of interactions, and the order of merging does not matter.
    """

    limit: int = 1 << 18
    grain: int = 1
    values: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, times: NDArray[Any], counts: NDArray[Any] | None = None) -> TimeHistogram:
        """Count instants [n] in microseconds."""
        weights = np.ones(len(times), np.int64) if counts is None else counts
        self.values = np.concatenate([self.values, times // self.grain * self.grain])
        self.counts = np.concatenate([self.counts, weights])
        self._compact()
        while len(self.values) > self.limit:
            self.grain *= 2
            self.values = self.values // self.grain * self.grain
            self._compact()
        return self

    def merge(self, other: TimeHistogram) -> TimeHistogram:
        """Both together."""
        if other.grain > self.grain:
            self, other = other, self
        return self.add(other.values, other.counts)

    def threshold(self, share: float) -> int:
        """The instant before which about ``share`` of the interactions lie; equal instants stay together."""
        reached = np.cumsum(self.counts) >= share * self.counts.sum()
        at = int(np.argmax(reached)) + 1
        return int(self.values[at]) if at < len(self.values) else int(self.values[-1]) + self.grain

    def _compact(self) -> None:
        self.values, inverse = np.unique(self.values, return_inverse=True)
        self.counts = np.bincount(inverse, self.counts, len(self.values)).astype(np.int64)


def boundaries(split: SplitConfig, histogram: TimeHistogram) -> tuple[int, int] | None:
    """Start of validation and of test in microseconds for a split by time, None for the other methods."""
    if split.method != "global_time":
        return None
    if split.validation_from and split.test_from:
        return utc_microseconds(split.validation_from), utc_microseconds(split.test_from)
    return (
        histogram.threshold(1 - split.validation - split.test),
        histogram.threshold(1 - split.test),
    )


def assign(
    split: SplitConfig,
    bounds: tuple[int, int] | None,
    user: NDArray[Any],
    time: NDArray[Any],
    given: NDArray[Any],
) -> NDArray[Any]:
    """The split of each interaction [n] int8, of rows sorted by user, time and order in the log.

    Args:
      split: the method.
      bounds: from ``boundaries``.
      user: codes [n], equal for one user and rising.
      time: microseconds [n].
      given: the predefined split [n], read by the method ``column`` only.
    """
    if split.method == "column":
        return given.astype(np.int8)
    if bounds is not None:
        return (time >= bounds[0]).astype(np.int8) + (time >= bounds[1]).astype(np.int8)
    starts, sizes = runs(user)
    from_end = np.repeat(starts + sizes, sizes) - 1 - np.arange(len(user))
    enough = (
        np.repeat(sizes, sizes) >= 3
    )  # a shorter user only trains: nothing would be left to learn from
    result = np.full(len(user), TRAIN, np.int8)
    result[enough & (from_end == 0)] = TEST
    result[enough & (from_end == 1)] = VALIDATION
    return result


def runs(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Start and size of each run of equal neighbours."""
    if not len(codes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return starts, np.diff(np.append(starts, len(codes)))


def infrequent(
    user: NDArray[Any], counts: NDArray[np.bool_], min_user_count: int
) -> NDArray[np.bool_]:
    """A mask [n] of the interactions of users with fewer than ``min_user_count`` that count.

    Args:
      user: codes [n], sorted.
      counts: [n], which of the interactions count.
      min_user_count: the number that is enough.
    """
    starts, sizes = runs(user)
    counted = np.concatenate([[0], np.cumsum(counts)])
    own = counted[starts + sizes] - counted[starts]
    few: NDArray[np.bool_] = np.repeat(own < min_user_count, sizes)
    return few


def describe(bounds: tuple[int, int] | None, split: SplitConfig, last: int) -> dict[str, Any]:
    """The boundaries as readable times, and ``until``: that of the last interaction."""
    instants = dict(zip(("validation_from", "test_from"), bounds or (), strict=False))
    if split.held_out == "train":
        instants = {}
    instants["until"] = last
    return {n: str(np.datetime64(b, "us").astype("datetime64[s]")) for n, b in instants.items()}
