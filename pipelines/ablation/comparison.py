"""One arm of an ablation: what is tuned, every seed, the weight of the prior, the figures on test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.ablation.arms import Arm, Changes, value_at, variant
from pipelines.ablation.runs import Runs
from pipelines.ablation.trainings_bar import TrainingsBar
from pipelines.config import RunConfig
from trainer.config.sections import TrainerSections

Json = dict[str, Any]


@dataclass(frozen=True)
class _Best:
    """The best of a search so far."""

    changes: Changes
    config: TrainerSections
    recall: float


class Comparison:
    """One arm: its search, its seeds, its beta, its figures on test."""

    def __init__(
        self, config: RunConfig, runs: Runs, board: TrainingsBar, name: str, seeds: Sequence[int]
    ) -> None:
        self._config, self._runs, self._board = config, runs, board
        self._name, self._seeds = name, seeds
        self._tried: list[Json] = []

    def run(self, arm: Arm, temperatures: Sequence[float]) -> Json:
        """The arm's part of ablation.json."""
        searched = arm.searched(temperatures)
        best = self._search(tuple(arm.set.items()), searched)
        found: Json = {"set": arm.set, "search": self._tried}
        if best is None:
            skipped = len(self._seeds) - 1 + sum(len(v) for v in searched.values())
            self._board.skip(skipped - len(self._tried))
            return {**found, "failed": self._tried[0]["failed"]}
        found["temperature"] = best.config.loss.temperature
        found["tuned"] = {key: value_at(best.config, key) for key in arm.tune}
        edges = [key for key, v in searched.items() if _at_edge(value_at(best.config, key), v)]
        records = [self._seed(best.changes, seed) for seed in self._seeds]
        found["runs"] = [
            {"seed": seed, **record} for seed, record in zip(self._seeds, records, strict=True)
        ]
        for run in found["runs"]:
            if "failed" in run:
                return {**found, "failed": f"seed {run['seed']}: {run['failed']}"}
        betas = self._config.ablate.betas
        overall = _means(records, "validation")["overall"]
        place = int(np.nan_to_num(overall, nan=-1.0).argmax())
        if _at_edge(betas[place], betas):
            edges.append("beta")
        return {
            **found,
            "beta": betas[place],
            "at_the_edge": edges,
            "frontier": {
                split: {g: _plain(v) for g, v in _means(records, split).items()}
                for split in ("validation", "test")
            },
            "test": _summary(records, place),
            "test_at_zero": _summary(records, betas.index(0)),
            "ms_per_step": _mean_speed(records),
        }

    def _search(self, fixed: Changes, searched: dict[str, Sequence[Any]]) -> _Best | None:
        """Coordinate-wise on validation, each candidate at its own best beta."""
        best: _Best | None = None
        for key, values in searched.items():
            start = best.changes if best else fixed
            for value in values:
                changes = (*start, (key, value))
                config = variant(self._config, self._name, changes, self._seeds[0])
                record = self._train(config, f"{key} {value}", "validation")
                one: Json = {"key": key, "value": value, "run": self._runs.key(config)}
                if "failed" in record:
                    self._tried.append({**one, "failed": record["failed"]})
                    continue
                recall = max(record["validation"]["overall"], key=lambda r: r or 0.0) or 0.0
                self._tried.append({**one, "validation": recall})
                if best is None or recall > best.recall:
                    if best is not None:
                        self._runs.forget(best.config)
                    best = _Best(changes, config, recall)
                elif one["run"] != self._runs.key(best.config):
                    self._runs.forget(config)
            if best is None:
                return None
        return best

    def _seed(self, changes: Changes, seed: int) -> Json:
        config = variant(self._config, self._name, changes, seed)
        if seed == self._seeds[0]:  # trained in the search
            record = self._runs.measured(config, "validation", "test")
        else:
            record = self._train(config, f"seed {seed}", "validation", "test")
        self._runs.forget(config)
        return record

    def _train(self, config: TrainerSections, what: str, *splits: str) -> Json:
        what = what.removeprefix("loss.")
        was_there = self._runs.has(config, *splits)
        self._board.begin(f"{self._name}, {what}")
        record = self._runs.measured(config, *splits)
        self._board.end(f"{self._name}, {what}", record, was_there)
        return record


def _means(records: Sequence[Json], split: str) -> dict[str, NDArray[np.float64]]:
    """Group -> `[betas]` recall, mean over the seeds; NaN where nobody has a target."""
    groups = records[0][split]
    return {
        group: np.array([record[split][group] for record in records], np.float64).mean(axis=0)
        for group in groups
    }


def _summary(records: Sequence[Json], place: int) -> Json:
    """Group -> mean and standard deviation of test over the seeds, at one beta."""
    found: Json = {}
    for group in records[0]["test"]:
        over_seeds = np.array([record["test"][group][place] for record in records], np.float64)
        deviation = over_seeds.std(ddof=1) if len(records) > 1 else math.nan
        mean, deviation = _plain(np.array([over_seeds.mean(), deviation]))
        found[group] = {"mean": mean, "std": deviation}
    return found


def _mean_speed(records: Sequence[Json]) -> float | None:
    known = [r["training"]["ms_per_step"] for r in records if r["training"]["ms_per_step"]]
    return round(sum(known) / len(known), 1) if known else None


def _at_edge(value: Any, candidates: Sequence[Any]) -> bool:
    """Whether a chosen number is the lowest or highest that was offered: more might be better."""
    numbers = [c for c in candidates if isinstance(c, (int, float)) and not isinstance(c, bool)]
    return len(numbers) > 2 and value in (min(numbers), max(numbers))


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), 6) for value in values]
