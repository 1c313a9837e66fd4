"""Popularity buckets of the catalogue: head, torso, tail, and what training never saw.

Buckets are cut by share of *training events*, not by number of items, so that each of them stands
for a stated part of the traffic: with shares (0.5, 0.3) the head is the few items that take the
first half of all events, the torso the next 30 %, the tail the rest. Items without an event are
`unseen`: their results are reported apart, since no method that learns from ids alone can recommend
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError

BUCKETS = ("head", "torso", "tail", "unseen")
GROUPS = ("overall", *BUCKETS)
MODES = ("new", "all")
"""How results are divided: by group of targets and by mode, see `protocol`."""
HEAD, TORSO, TAIL, UNSEEN = range(4)
PADDING = -1
"""Bucket of row 0: none ; no target is in it."""


@dataclass(frozen=True)
class PopularityBuckets:
    """Which bucket each item of the catalogue is in.

    Attributes:
      events: `[N + 1]` int64, training events of each row; row 0 is padding.
      bucket_of_item: `[N + 1]` int8, index into `BUCKETS`; -1 for row 0.
    """

    events: NDArray[np.int64]
    bucket_of_item: NDArray[np.int8]

    @property
    def num_items(self) -> int:
        """N, the size of the catalogue without padding."""
        return len(self.events) - 1

    @property
    def known(self) -> NDArray[np.bool_]:
        """`[N + 1]` whether training saw the item."""
        return self.events > 0

    def summary(self) -> dict[str, dict[str, float]]:
        """Items, events and share of events of each bucket, by name."""
        total = max(int(self.events.sum()), 1)
        found: dict[str, dict[str, float]] = {}
        for index, name in enumerate(BUCKETS):
            inside = self.bucket_of_item == index
            events = int(self.events[inside].sum())
            found[name] = {
                "items": int(inside.sum()),
                "events": events,
                "share_of_events": events / total,
            }
        return found


def assign_buckets(events: NDArray[Any], shares: Sequence[float]) -> PopularityBuckets:
    """Cuts the items into buckets by their share of training events.

    Items are ranked by falling events (ties: by row). An item belongs to the head while the items
    before it hold less than `shares[0]` of all events, so the item that crosses the border still is
    in the upper bucket and the head is never empty.

    Args:
      events: `[N + 1]` integer training events; row 0 is padding and must be 0.
      shares: of head and torso, each in (0, 1), together below 1.

    Raises:
      LongtailError: an event count is negative, row 0 has events, or the shares are impossible.
    """
    counts = np.asarray(events, np.int64)
    if counts.ndim != 1 or not counts.size or counts[0] != 0 or counts.min() < 0:
        raise LongtailError(
            "item counts: expected [N + 1] events >= 0 with 0 for the padding row 0, "
            f"received shape {counts.shape}, row 0 = {counts[:1].tolist()}, "
            f"lowest {counts.min(initial=0)}"
        )
    if len(shares) != 2 or min(shares) <= 0 or sum(shares) >= 1:
        raise LongtailError(
            f"bucket_shares: expected two shares above 0 that sum to less than 1, received {shares}"
        )
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    # Sums such as 0.1 + 0.2 lie above what they mean: that must not move a border by one item.
    borders = (np.cumsum(shares) - 1e-12) * counts.sum()
    bucket = np.empty(len(counts), np.int8)
    bucket[order] = np.searchsorted(borders, before, side="right")
    bucket[counts == 0] = UNSEEN
    bucket[0] = PADDING
    return PopularityBuckets(events=counts, bucket_of_item=bucket)
