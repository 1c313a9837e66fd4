"""Rankers side by side on one split, and the figures that summarise them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from trainer.baselines.ranker import Ranker
from trainer.baselines.registry import REPEAT_ONLY
from trainer.buckets import GROUPS, MODES, PopularityBuckets
from trainer.protocol import Measured, QuerySplit, log_spaced, measure, paired_difference

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


def judge(
    split: QuerySplit,
    rankers: Sequence[Ranker],
    buckets: PopularityBuckets,
    ks: Sequence[int],
    clock: Clock,
) -> dict[str, Any]:
    """Figures of every ranker and mode on one split, and how the model differs from the others.

    Returns:
      `users`; `rankers[name][mode]`, the cells of `protocol.measure`;
      `model_minus[name][mode][group]`, differences of the recall at the largest k. The own frequent
      items have no mode `new`.
    """
    found: dict[str, dict[str, Measured]] = {}
    for ranker in rankers:
        for mode in MODES:
            if mode == "new" and ranker.name in REPEAT_ONLY:
                continue  # it has nothing to recommend: a row of zeros would only mislead
            with clock(f"{ranker.name} / {split.name} {mode}"):
                ranked = ranker.rank(split, ks[-1], exclude_seen=mode == "new")
            found.setdefault(ranker.name, {})[mode] = measure(
                ranked, split.targets_of(mode), buckets, ks
            )
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
    rankings = {
        name: {mode: one.cells for mode, one in modes.items()} for name, modes in found.items()
    }
    return {"users": split.num_users, "rankers": rankings, "model_minus": versus}


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
