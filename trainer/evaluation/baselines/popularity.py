"""The same list for everybody: items by training events, or by events of late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.baselines.ranker import Built, Material
from trainer.evaluation.protocol import QuerySplit
from trainer.functional.metrics import Ints

_USERS_AT_ONCE = 8_192
"""Bounds the memory of their places: 7 MB for a list of 100."""


class PopularityRanker:
    """Items by falling training events (ties: by row); never an item without events."""

    name = "popularity"

    def __init__(self, events: NDArray[Any]) -> None:
        """Takes `events [N + 1]`."""
        order = np.argsort(-events, kind="stable")
        self._order = order[events[order] > 0]
        self._place = np.full(len(events), len(self._order), np.int64)
        self._place[self._order] = np.arange(len(self._order))

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`."""
        ranked = np.zeros((queries.num_users, k), np.int64)
        if not exclude_seen:
            ranked[:, : len(self._order)] = self._order[:k]
            return ranked
        for first in range(0, queries.num_users, _USERS_AT_ONCE):
            seen = queries.seen[first : first + _USERS_AT_ONCE]
            places = self._free_places(seen.indices, seen.indptr, k)
            inside = places < len(self._order)
            ranked[first : first + len(places)][inside] = self._order[places[inside]]
        return ranked

    def _free_places(self, seen: NDArray[Any], row_splits: NDArray[Any], k: int) -> Ints:
        """`[U, k]`: places in the order of the first k items that each user has not seen.

        Of a user's seen places p_0 < p_1 < ..., p_j - j free ones come before p_j. So the i-th free
        place is i + (number of j with p_j - j <= i): one sorted look-up for all users.
        """
        num_users, width = len(row_splits) - 1, len(self._order)
        users = np.repeat(np.arange(num_users), np.diff(row_splits))
        listed = self._place[seen] < width
        users, taken = users[listed], self._place[seen[listed]]
        first = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=num_users))])
        # One rising key a seen item: the user, then p_j - j.
        taken = np.sort(users * width + taken) - (np.arange(len(users)) - first[users])
        wanted = np.arange(num_users)[:, None] * width + np.minimum(np.arange(k), width - 1)
        found = np.searchsorted(taken, wanted, side="right") - first[:-1, None]
        places: Ints = np.arange(k) + found
        return places


class RecentPopularity:
    """Items by falling recent events, where an event weighs 2^(-age / half-life)."""

    name = "recent_popularity"

    def __init__(self, recent: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes `ItemTable.counts_recent`: `[N + 1]` as of the start of each split."""
        self._as_of = {split: PopularityRanker(events) for split, events in recent.items()}

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`."""
        return self._as_of[queries.name].rank(queries, k, exclude_seen)


def build_popularity(material: Material) -> Built:
    """See `registry`."""
    return Built(PopularityRanker(material.buckets.events))


def build_recent_popularity(material: Material) -> Built:
    """See `registry`."""
    return Built(RecentPopularity(material.recent))
