"""The search by which baselines are tuned: one setting after the other, on validation.

A full grid of three settings with three values each is 27 fits; going through the settings in turn,
each with the others at their best so far, is 7. Where settings depend on each other one round may
stop too early, so the search goes round until none of them changes (coordinate descent); a point
that was tried is not tried again. Every point is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from trainer.evaluation.baselines.ranker import Material, Ranker
from trainer.evaluation.baselines.user_items import sample_users
from trainer.evaluation.protocol import plain, standard_error
from trainer.functional.metrics import hits, mean_over_users, recall_at_k

Tuned = TypeVar("Tuned", bound=Ranker)
Settings = dict[str, Any]


def size_of(grid: Mapping[str, Sequence[Any]]) -> int:
    """Points of the first round of a search, which visits at least these."""
    return 1 + sum(len(values) - 1 for values in grid.values())


def tune(
    title: str,
    grid: Mapping[str, Sequence[Any]],
    fit: Callable[[Settings], Tuned],
    material: Material,
) -> tuple[Tuned, list[dict[str, Any]]]:
    """Finds the settings of the highest validation recall of new items that training knows.

    Args:
      title: of the stage that people see.
      grid: values of each setting; the search begins with the first of each and goes through them in
        this order.
      fit: a ranker of some settings.
      material: validation (a sample of `max_validation_users` decides) and the length of the list.

    Returns:
      The best ranker, and one record a point: settings, `recall`, `se`, `seconds`, `chosen`. Of
      equals, or without a validation user, the one tried first is taken.
    """
    k = material.settings.ks[-1]
    sample = sample_users(
        material.validation, material.settings.max_validation_users, material.seed
    )
    targets = sample.targets_of("new").restrict(material.buckets.known)
    records: list[dict[str, Any]] = []

    def tried(settings: Settings) -> tuple[Tuned, float]:
        started = time.perf_counter()
        ranker = fit(settings)
        per_user = recall_at_k(hits(ranker.rank(sample, k, True), targets), targets.counts, k)
        recall = plain(mean_over_users(per_user))
        record = {
            "recall": recall,
            "se": plain(standard_error(per_user)),
            "seconds": round(time.perf_counter() - started, 2),
            "chosen": False,
        }
        records.append({**settings, **record})
        return ranker, recall or 0.0

    stage = f"tuning {title}, {size_of(grid)} settings in the first round"
    with material.stages.stage(stage, lambda: len(records)):
        chosen, before = {name: values[0] for name, values in grid.items()}, None
        (best, highest), place, seen = tried(chosen), 0, [chosen]
        while chosen != before:
            before = chosen
            for name, values in grid.items():
                for value in values:
                    settings = {**chosen, name: value}
                    if settings in seen:
                        continue
                    seen.append(settings)
                    ranker, recall = tried(settings)
                    if recall > highest:
                        best, highest, place = ranker, recall, len(records) - 1
                chosen = {key: records[place][key] for key in grid}
    records[place]["chosen"] = True
    return best, records
