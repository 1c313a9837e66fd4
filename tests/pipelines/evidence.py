"""Evaluations made up by hand: hits of some queries by bucket and length of the list."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.rollout.gates import Evidence, Reference
from trainer.evaluation.buckets import BUCKETS
from trainer.evaluation.per_query import KNOWN, Key, PerQuery

Hits = dict[str, dict[int, list[int]]]
"""Bucket -> length -> hits of each query."""
TARGETS = 10
"""Of each query in each known bucket: recall at 10 and more is hits / 10 of one bucket, / 30 of all at 30 and more."""


def per_query(hits: Hits, users: list[bytes] | None = None, targets: int = TARGETS) -> PerQuery:
    """Buckets that are not named have no hits."""
    lists = next(iter(hits.values()))
    size = len(next(iter(lists.values())))
    keys = users or [b"u%03d" % n for n in range(size)]
    return PerQuery(
        np.array(keys, object),
        {b: np.full(size, targets if b in KNOWN else 0) for b in BUCKETS},
        {b: {k: np.array(hits.get(b, {}).get(k, [0] * size)) for k in lists} for b in BUCKETS},
    )


def evidence(
    model: PerQuery,
    popularity: PerQuery | None = None,
    *,
    data: str = "d1",
    enough: int = 200,
    not_finite: int = 0,
    ks: tuple[int, ...] = (10, 100),
) -> Evidence:
    """What an evaluation leaves; popularity finds nothing where none is given."""
    nothing = PerQuery(
        model.users,
        model.targets,
        {b: {k: np.zeros_like(v) for k, v in of.items()} for b, of in model.hits.items()},
    )
    cells: dict[str, Any] = {}
    for group, buckets in (("overall", KNOWN), ("tail", ("tail",))):
        cell: dict[str, Any] = {"users": int((model.targets["tail"] > 0).sum())}
        for k in (k for k in ks if k in model.lists):
            recall = model.recall(buckets, k)
            cell[f"recall@{k}"] = round(float(np.nanmean(recall)), 6) if cell["users"] else None
        cells[group] = cell
    metrics = {
        "ks": list(ks),
        "made": {"data_fingerprint": data},
        "buckets": {"head": {"items": 2}},
        "splits": {"test": {"rankers": {"model": {"new": cells}}}},
        "enough_hits": enough,
        "not_finite": not_finite,
    }
    rankings = {"model": model, "popularity": popularity or nothing}
    return Evidence(metrics, {Key("test", "new", name): each for name, each in rankings.items()})


def blessed(
    of: Evidence, name: str = "the blessed model", groups: tuple[str, ...] = ("overall", "tail")
) -> Reference:
    """A model that was blessed before."""
    return Reference(name, groups, of)
