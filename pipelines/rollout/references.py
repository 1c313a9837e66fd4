"""Which blessed models a candidate is compared with: the one in service, and the best of late.

A model a day that may lose a tenth against the day before could lose half in a week. So the best of
the last blessed versions is compared with as well. Which one that is, is told by its own day: by
its recall as a multiple of what popularity had on that day's queries, since figures of different
days compare the days. Then it is measured on the candidate's data like the one in service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pipelines.rollout.gates import Evidence, GatesConfig, Reference
from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.export.folder import version_paths, withdrawn_versions
from serving.export.run import ASSETS
from trainer.evaluation.per_query import KNOWN, PER_QUERY, Key, PerQuery, read_per_query
from trainer.functional.metrics import mean_over_users

BLESSING = "blessing.json"
"""Beside longtail.json of a version that passed: its checks, and the run that it came from."""
SERVED = "the blessed model"
Handle = TypeVar("Handle")


def blessed_versions(folder: Path) -> dict[int, Path]:
    """Number -> path of those that passed the gates, the withdrawn ones too."""
    paths = {number: Path(path) for number, path in version_paths(folder).items()}
    return {n: path for n, path in sorted(paths.items()) if (path / ASSETS / BLESSING).is_file()}


def best_blessed(folder: Path, gates: GatesConfig, k: int) -> dict[str, list[Path]]:
    """The last `gates.best_of` blessed versions by group, the best on its own day first.

    Versions that were withdrawn, or that keep no figures of this kind, are left out.
    """
    withdrawn = withdrawn_versions(folder)
    standing = [path for n, path in blessed_versions(folder).items() if n not in withdrawn]
    recent = standing[len(standing) - min(gates.best_of, len(standing)) :]
    measured = {path: found for path in recent if (found := _figures(path, gates)) is not None}
    lists = [set(model.lists) & set(popular.lists) for model, popular in measured.values()]
    longest = max(set.intersection(*lists), default=0) if lists else 0
    best = {}
    for group in gates.drops():
        buckets, length = (KNOWN, k) if group == "overall" else (("tail",), longest)
        leads = {
            path: _lead(model, popular if group == "overall" else None, buckets, length)
            for path, (model, popular) in measured.items()
            if length in model.lists
        }
        best[group] = sorted(leads, key=leads.__getitem__, reverse=True)
    return best


def references(
    serving: Handle | None,
    best: Mapping[str, Sequence[Handle]],
    *,
    besides: Iterable[Handle] = (),
    measure: Callable[[Handle], Evidence],
    name: Callable[[Handle], str],
    tell: Callable[[str], None],
) -> list[Reference]:
    """The models to compare with, measured.

    Args:
      serving: the model in service; None where nothing was ever blessed.
      best: of `best_blessed`, by whatever the caller knows models by.
      besides: what is not compared with: the candidate.
      measure: evaluates on the candidate's data.
      name: for people.
      tell: what could not be measured, of those that do not serve.

    Raises:
      LongtailError: the model in service cannot be measured.
    """
    found = []
    if serving is not None:
        found.append(Reference(SERVED, tuple(best), measure(serving)))
    groups: dict[Handle, list[str]] = {}
    measured: dict[Handle, Evidence] = {}
    for group, ranked in best.items():
        for each in ranked:
            if each == serving or each in besides:
                break  # nothing of late was better
            try:
                measured[each] = measured.get(each) or measure(each)
            except (LongtailError, LongtailFailure) as error:
                tell(f"not compared with {name(each)}, the best of late ({group}): {error}")
                continue
            groups.setdefault(each, []).append(group)
            break
    found += [
        Reference(f"{name(each)}, the best of late", tuple(of), measured[each])
        for each, of in groups.items()
    ]
    return found


def _figures(version: Path, gates: GatesConfig) -> tuple[PerQuery, PerQuery] | None:
    """Hits of the model and of popularity on the queries of its own day."""
    try:
        found = read_per_query(version / ASSETS / PER_QUERY)
        model, popular = (
            found[Key(gates.split, gates.mode, ranker)] for ranker in ("model", "popularity")
        )
    except (OSError, KeyError, ValueError):
        return None
    return model, popular


def _lead(model: PerQuery, popular: PerQuery | None, buckets: Sequence[str], k: int) -> float:
    """Recall as a multiple of popularity's, where that finds anything at all; NaN is the least."""
    recall = mean_over_users(model.recall(buckets, k))
    other = mean_over_users(popular.recall(buckets, k)) if popular is not None else 0.0
    lead = recall / other if other > 0 else recall
    return lead if lead >= 0 else -1.0
