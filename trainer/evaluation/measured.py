"""Rankers side by side on one split, and the figures that summarise them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from trainer.evaluation.baselines.ranker import Ranker, RanksByMode
from trainer.evaluation.baselines.registry import REPEAT_ONLY
from trainer.evaluation.buckets import GROUPS, MODES, PopularityBuckets
from trainer.evaluation.per_query import GATED, Key, Rankings, count_hits, longer_lists
from trainer.evaluation.protocol import (
    Measured,
    QuerySplit,
    clearly_best,
    log_spaced,
    measure,
    paired_difference,
)
from trainer.functional.metrics import Ints

_CURVE_POINTS = 200


class Clock:
    """Seconds by what was done: finer than the stages that people see."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Adds the seconds of the block to a part."""
        started = time.perf_counter()
        yield
        self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - started

    def rounded(self) -> dict[str, float]:
        """All parts, to 10 ms."""
        return {part: round(seconds, 2) for part, seconds in self._seconds.items()}


def measure_split(
    split: QuerySplit,
    rankers: Sequence[Ranker],
    buckets: PopularityBuckets,
    ks: Sequence[int],
    clock: Clock,
    *,
    enough_hits: int,
    unshown: Sequence[Ranker] = (),
) -> tuple[dict[str, Any], Rankings]:
    """Figures of every ranker and mode on one split, and how the model differs from the others.

    Args:
      split: the queries.
      rankers: the model first.
      buckets: of the catalogue.
      ks: lengths of the list, rising.
      clock: for the seconds.
      enough_hits: of the tail, below which the rankers of `GATED` are asked for longer lists.
      unshown: rankers of which only hits by query are wanted.

    Returns:
      `users` that were ranked, `users_in_split`; `rankers[name][mode]`, the cells of `protocol.measure`;
      `model_minus[name][mode][group]`, differences of the recall at the largest k;
      `clearly_best[mode][group]`, who leads by more than chance, or None. The own frequent items
      have no mode `new`. And the hits of every ranking by query.
    """
    found: dict[str, dict[str, Measured]] = {}
    by_query: Rankings = {}
    for ranker, shown in [*((r, True) for r in rankers), *((r, False) for r in unshown)]:
        for mode, ranked in _rankings(ranker, split, ks[-1], clock):
            targets, barred = split.targets_of(mode), mode == "new"
            counts = count_hits(split.keys, ranked, targets, buckets, ks)
            longer = longer_lists(ks[-1], buckets.num_items)
            few = ranker.name in GATED and counts.total(["tail"], ks[-1]) < enough_hits
            if longer and few and split.num_users:
                with clock(f"{ranker.name} / {split.name} {mode}, top {longer[-1]}"):
                    deep = ranker.rank(split, longer[-1], exclude_seen=barred)
                counts = count_hits(split.keys, deep, targets, buckets, [*ks, *longer])
            by_query[Key(split.name, mode, ranker.name)] = counts
            if shown:
                found.setdefault(ranker.name, {})[mode] = measure(ranked, targets, buckets, ks)
    versus = {
        name: {
            mode: {
                g: paired_difference(found["model"][mode].recall[g], theirs.recall[g])
                for g in GROUPS
            }
            for mode, theirs in modes.items()
        }
        for name, modes in found.items()
        if name != "model"
    }
    best = {
        mode: {
            g: clearly_best({n: m[mode].recall[g] for n, m in found.items() if mode in m})
            for g in GROUPS
        }
        for mode in MODES
    }
    rankings = {
        name: {mode: one.cells for mode, one in modes.items()} for name, modes in found.items()
    }
    figures = {
        "users": split.num_users,
        "users_in_split": split.users_in_split or split.num_users,
        "rankers": rankings,
        "model_minus": versus,
        "clearly_best": best,
    }
    return figures, by_query


def _rankings(
    ranker: Ranker, split: QuerySplit, k: int, clock: Clock
) -> Iterator[tuple[str, Ints]]:
    """The ranking of each mode that the ranker has something to say about."""
    if isinstance(ranker, RanksByMode):
        with clock(f"{ranker.name} / {split.name}"):
            ranked = ranker.rank_by_mode(split, k)
        yield from ((mode, ranked[mode]) for mode in MODES)
        return
    for mode in MODES:
        if mode == "new" and ranker.name in REPEAT_ONLY:
            continue  # it has nothing to recommend: a row of zeros would only mislead
        with clock(f"{ranker.name} / {split.name} {mode}"):
            found = ranker.rank(split, k, exclude_seen=mode == "new")
        yield mode, found


def headline(model: dict[str, Any]) -> dict[str, float | None]:
    """Figures of the model as `recall@100/new`, `recall@100/new/tail`, to gate and compare."""
    flat: dict[str, float | None] = {}
    for mode, cells in model.items():
        for group in GROUPS:
            for key, value in cells[group].items():
                metric, _, error = key.partition("/")
                if "@" in metric and not error:
                    flat[f"{metric}/{mode}" + ("" if group == "overall" else f"/{group}")] = value
        for key in ("coverage", "gini", "mean_popularity"):
            flat[f"{key}/{mode}"] = cells["exposure"][key]
    return flat


def long_tail_curve(buckets: PopularityBuckets) -> dict[str, list[int]]:
    """Events by popularity rank of items with events, at up to 200 ranks even on a log scale."""
    events = np.sort(buckets.events[buckets.events > 0])[::-1]
    ranks = log_spaced(events.size, _CURVE_POINTS)
    return {"rank": ranks.tolist(), "events": events[ranks - 1].tolist()}
