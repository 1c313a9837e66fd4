"""Rankers side by side: longer lists for those that gates compare, where their tail is hit too seldom."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.measured import Clock, measure_split
from trainer.evaluation.per_query import Key
from trainer.evaluation.protocol import QuerySplit, csr_of
from trainer.functional.metrics import Targets

ITEMS = 400


class Ordered:
    """Shows the items in their order, and remembers how many it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[int] = []

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> np.ndarray:
        self.asked.append(k)
        return np.tile(np.arange(1, k + 1), (queries.num_users, 1))


def judged(enough: int) -> tuple[dict[str, Ordered], dict[Key, list[int]]]:
    # The events halve from item to item: 1 is the head, 2 and 3 the torso, from 4 on all tail.
    events = np.r_[0, [2**40 // 2**n for n in range(1, 41)], np.ones(ITEMS - 40, int)]
    buckets = assign_buckets(events.astype(np.int64), (0.5, 0.3))
    split = QuerySplit(
        "test", {}, Targets.from_lists([[1, 30], [4, 35]]), csr_of([], [], [], (2, ITEMS + 1))
    )
    rankers = {name: Ordered(name) for name in ("model", "als")}
    unshown = Ordered("popularity")
    metrics, found = measure_split(
        split,
        list(rankers.values()),
        buckets,
        [2, 4],
        Clock(),
        enough_hits=enough,
        unshown=[unshown],
    )
    assert set(metrics["rankers"]) == {"model", "als"}
    return {**rankers, "popularity": unshown}, {key: each.lists for key, each in found.items()}


def test_a_tail_hit_often_enough_asks_for_nothing_more() -> None:
    rankers, lists = judged(enough=1)  # item 4 is hit within four places
    assert {name: each.asked for name, each in rankers.items()} == {
        "model": [4, 4], "als": [4, 4], "popularity": [4, 4]
    }  # fmt: skip
    assert lists[Key("test", "new", "model")] == [2, 4]


def test_a_tail_hit_too_seldom_is_looked_for_in_longer_lists() -> None:
    rankers, lists = judged(enough=2)
    # Twice, five and ten times four places: a tenth of the catalogue at most.
    assert {name: each.asked for name, each in rankers.items()} == {
        "model": [4, 40, 4, 40], "als": [4, 4], "popularity": [4, 40, 4, 40]
    }  # fmt: skip
    assert lists[Key("test", "new", "model")] == [2, 4, 8, 20, 40]
    assert lists[Key("test", "all", "als")] == [2, 4]
