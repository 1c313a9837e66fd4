"""What is measured of a ranking: the protocol that the model and every baseline go through alike.

Two modes, both over the whole catalogue:

* `new`: the targets are items that the user had not touched before the split, and items that the
  user had touched are removed from the ranking. The task of a recall stage.
* `all`: every item of the split is a target and nothing is removed; repeat consumption counts.

Overall figures take only targets that training knows (one event or more). Targets that training
never saw form the bucket `unseen`, reported apart. The ranking is the same for every bucket: a
bucket narrows the targets, never the candidates. Users without a target in a cell are left out of
its means, and each cell says how many users and targets it stands on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.optional import require
from trainer.evaluation.buckets import BUCKETS, GROUPS, PopularityBuckets
from trainer.functional.metrics import (
    Floats,
    Ints,
    Targets,
    coverage_at_k,
    gini_of_exposure,
    hits,
    mean_over_users,
    mean_popularity,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)

if TYPE_CHECKING:
    import scipy.sparse as sp

_CURVE_POINTS = 100


@dataclass(frozen=True)
class QuerySplit:
    """The users of a split as of its start.

    Attributes:
      name: `validation` or `test`.
      features: model input of the U users; opaque here, baselines do not read it.
      targets: every distinct item of the split, for the U users.
      seen: `[U, N + 1]` csr matrix: how often each user had each item before the split.
      users: `[U]` raw keys, by which figures of two models are paired; None where nothing is paired.
      users_in_split: of which the U are a random sample; 0 where they are all.
    """

    name: str
    features: Mapping[str, Any]
    targets: Targets
    seen: sp.csr_matrix
    users: NDArray[Any] | None = None
    users_in_split: int = 0

    @property
    def keys(self) -> NDArray[Any]:
        """`[U]` what names the users: their keys, or else their numbers."""
        numbers = np.array([b"%d" % row for row in range(self.num_users)], object)
        return numbers if self.users is None else self.users

    @property
    def num_users(self) -> int:
        """U."""
        return self.targets.num_users

    @property
    def exclude(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the users had seen as (values, row_splits), for `retrieval.top_items`."""
        return self.seen.indices, self.seen.indptr

    def targets_of(self, mode: str) -> Targets:
        """The targets of a mode: all of them, or those that the user had not seen."""
        if mode == "all":
            return self.targets
        return new_targets(self.targets, *self.exclude)


def new_targets(
    targets: Targets, seen: NDArray[np.integer[Any]], row_splits: NDArray[np.integer[Any]]
) -> Targets:
    """The targets that their users had not seen.

    Args:
      targets: of U users.
      seen: item rows, user after user.
      row_splits: `[U + 1]` where each user's begin in `seen`.
    """
    # One key a pair, so that a single sorted look-up serves all users.
    width = int(max(targets.items.max(initial=0), seen.max(initial=0))) + 1
    seers = np.repeat(np.arange(targets.num_users), np.diff(row_splits))
    fresh = ~np.isin(targets.users * width + targets.items, seers * width + seen)
    return Targets(targets.users[fresh], targets.items[fresh], targets.num_users)


@dataclass(frozen=True)
class Measured:
    """What a ranking is worth.

    Attributes:
      cells: JSON-like figures: one entry a group of `GROUPS`, and `exposure`.
      recall: `[U]` recall at the largest k of each group, NaN for users without targets: for paired
        comparisons between rankers.
    """

    cells: dict[str, Any]
    recall: dict[str, Floats]


def measure(
    ranked: Ints, targets: Targets, buckets: PopularityBuckets, ks: Sequence[int]
) -> Measured:
    """Every figure of one ranking.

    Args:
      ranked: `[U, max(ks)]` item rows, best first, 0 = padding.
      targets: of the mode, for the same users.
      buckets: of the catalogue.
      ks: list lengths that are judged, rising.

    Returns:
      Cells `users`, `targets`, `recall@k`, `recall@k/se`, `ndcg@k` (overall also `mrr@k`); figures
      of a cell without users are None.
    """
    cells: dict[str, Any] = {}
    recall: dict[str, Floats] = {}
    for group in GROUPS:
        wanted = (
            buckets.known if group == "overall" else buckets.bucket_of_item == BUCKETS.index(group)
        )
        inside = targets.restrict(wanted)
        found, counts = hits(ranked, inside), inside.counts
        cell: dict[str, Any] = {"users": int((counts > 0).sum()), "targets": int(counts.sum())}
        for k in ks:
            per_user = recall_at_k(found, counts, k)
            cell[f"recall@{k}"] = plain(mean_over_users(per_user))
            cell[f"recall@{k}/se"] = plain(standard_error(per_user))
            cell[f"ndcg@{k}"] = plain(mean_over_users(ndcg_at_k(found, counts, k)))
            if group == "overall":
                cell[f"mrr@{k}"] = plain(mean_over_users(mrr_at_k(found, counts, k)))
        cells[group] = cell
        recall[group] = recall_at_k(found, counts, ks[-1])
    cells["exposure"] = exposure(ranked, buckets, ks[-1])
    return Measured(cells, recall)


def exposure(ranked: Ints, buckets: PopularityBuckets, k: int) -> dict[str, Any]:
    """How the places of `ranked [U, >= k]` are spread over the catalogue.

    Returns:
      `coverage` (share of the catalogue shown to anybody), `gini` (0 even, 1 everything to one
      item), `mean_popularity` (training events), `shown` (share of places by bucket), `curve`: the
      share of places that the most shown `items` take, at up to 100 numbers of items spaced evenly
      on a log scale. (A Lorenz curve seen from the other end: on a linear axis over a long-tailed
      catalogue it hugs the corner.)
    """
    shown = ranked[:, :k]
    shown = shown[shown > 0]
    places = np.bincount(shown, minlength=buckets.num_items + 1)[1:]
    total = max(int(places.sum()), 1)
    by_bucket = np.bincount(buckets.bucket_of_item[shown], minlength=len(BUCKETS)) / total
    cumulative = np.cumsum(np.sort(places)[::-1]) / total
    items = log_spaced(buckets.num_items, _CURVE_POINTS)
    return {
        "coverage": plain(coverage_at_k(ranked, k, buckets.num_items)),
        "gini": plain(gini_of_exposure(ranked, k, buckets.num_items)),
        "mean_popularity": plain(mean_popularity(ranked, k, buckets.events)),
        "shown": {name: plain(share) for name, share in zip(BUCKETS, by_bucket, strict=True)},
        "curve": {
            "items": items.tolist(),
            "share": [plain(share) for share in cumulative[items - 1]],
        },
    }


def log_spaced(last: int, points: int) -> Ints:
    """At most `points` distinct integers from 1 to `last`, even on a log scale; none for 0."""
    if not last:
        return np.zeros(0, np.int64)
    return np.unique(np.geomspace(1, last, min(points, last)).round().astype(np.int64))


def paired_difference(ours: Floats, theirs: Floats) -> dict[str, Any]:
    """Mean difference of two per-user metrics over the same users, with its standard error.

    Pairing takes the difference user by user, so that what makes a user easy or hard for every
    ranker drops out: far sharper than comparing two means with their separate errors.
    """
    difference = ours - theirs
    return {
        "users": int((~np.isnan(difference)).sum()),
        "difference": plain(mean_over_users(difference)),
        "se": plain(standard_error(difference)),
    }


def clearly_best(figures: Mapping[str, Floats]) -> str | None:
    """Who has the highest mean by more than two standard errors of the paired difference to every other.

    Args:
      figures: name -> `[U]` of a metric, all for the same users.

    Returns:
      The name, or None where chance may have decided: then nobody is printed bold.
    """
    means = {name: mean_over_users(values) for name, values in figures.items()}
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if len(known) < 2:
        return None
    best = max(known, key=known.__getitem__)
    for other in known.keys() - {best}:
        lead = figures[best] - figures[other]
        if not mean_over_users(lead) > 2 * standard_error(lead):
            return None
    return best


def standard_error(per_user: Floats) -> float:
    """Sample standard deviation over users / sqrt(users); NaN below two users."""
    known = per_user[~np.isnan(per_user)]
    return float(known.std(ddof=1) / math.sqrt(known.size)) if known.size > 1 else math.nan


def plain(value: float | np.floating[Any]) -> float | None:
    """A number for JSON: None for NaN, which JSON does not have."""
    number = float(value)
    return None if math.isnan(number) else round(number, 6)


def csr_of(
    users: NDArray[Any], items: NDArray[Any], counts: NDArray[Any], shape: tuple[int, int]
) -> sp.csr_matrix:
    """`shape` csr matrix of counts from triples; duplicates add up, indices sorted in each row."""
    sparse = require("scipy.sparse")
    matrix: sp.csr_matrix = sparse.csr_matrix(
        (np.asarray(counts, np.float32), (users, items)), shape=shape
    )
    matrix.sum_duplicates()
    return matrix
