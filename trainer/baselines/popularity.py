"""The same list for everybody: items by training events, or by events of late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.baselines.ranker import Built, Material
from trainer.functional.metrics import Ints
from trainer.protocol import QuerySplit


class Popularity:
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
        for user in range(queries.num_users):
            seen = queries.seen.indices[queries.seen.indptr[user] : queries.seen.indptr[user + 1]]
            # The first k + |seen| items surely hold k unseen ones: no need for the whole list.
            free = np.ones(min(k + len(seen), len(self._order)), np.bool_)
            places = self._place[seen]
            free[places[places < len(free)]] = False
            best = self._order[np.flatnonzero(free)[:k]]
            ranked[user, : len(best)] = best
        return ranked


class RecentPopularity:
    """Items by falling recent events, where an event weighs 2^(-age / half-life)."""

    name = "recent_popularity"

    def __init__(self, recent: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes `ItemTable.counts_recent`: `[N + 1]` as of the start of each split."""
        self._as_of = {split: Popularity(events) for split, events in recent.items()}

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`."""
        return self._as_of[queries.name].rank(queries, k, exclude_seen)


def build_popularity(material: Material) -> Built:
    """See `registry`."""
    return Built(Popularity(material.buckets.events))


def build_recent_popularity(material: Material) -> Built:
    """See `registry`."""
    return Built(RecentPopularity(material.recent))
