"""Differences of two models on the same queries, and a measure of the tail that stands on enough hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluation.per_query import KNOWN, PerQuery, common
from trainer.evaluation.protocol import standard_error
from trainer.functional.metrics import mean_over_users

TAILS = (("tail",), ("torso", "tail"))
"""What is measured for the tail, the narrowest first."""
_TOO_FEW = 20
"""A part of the hits that are enough, below which nothing is told at all."""


@dataclass(frozen=True)
class Measure:
    """Recall of the targets in some buckets at one length of the list.

    Attributes:
      buckets: whose targets count.
      k: length of the list.
      remark: why it is not what was asked for; empty where it is.
      tells: whether it stands on enough hits to refuse anybody.
    """

    buckets: Sequence[str]
    k: int
    remark: str = ""
    tells: bool = True

    def __str__(self) -> str:
        """For the name of a check, without the remark."""
        return "overall" if tuple(self.buckets) == KNOWN else " and ".join(self.buckets)


@dataclass(frozen=True)
class Difference:
    """Of two models, ours less theirs, over the queries that both were measured on.

    Attributes:
      theirs: their mean recall; NaN without a query.
      mean: of the differences.
      error: standard error of that mean; NaN below two queries.
    """

    theirs: float
    mean: float
    error: float


def difference(ours: PerQuery, theirs: PerQuery, measure: Measure) -> Difference:
    """Takes the difference query by query: what makes a query easy for every model drops out."""
    mine, other = (
        each.recall(measure.buckets, measure.k) for each in common(ours, theirs)
    )  # one order, the same targets
    return Difference(
        mean_over_users(other), mean_over_users(mine - other), standard_error(mine - other)
    )


def measure_of_tail(ours: PerQuery, theirs: PerQuery, k: int, enough: int) -> Measure:
    """The tail at k where both models together hit it often enough; else more of it, and said so.

    A few hits say nothing of a model: their chance alone is as large as any drop that a gate could
    ask about. So first the list grows, then the bucket.

    Args:
      ours: the candidate's counts.
      theirs: the blessed model's.
      k: length of the list that is asked for.
      enough: hits of both together.
    """
    ours, theirs = common(ours, theirs)
    lists = [length for length in ours.lists if length >= k and length in theirs.lists]
    at_k = 0
    for buckets in TAILS:
        for length in lists:
            found = ours.total(buckets, length) + theirs.total(buckets, length)
            if buckets == TAILS[0] and length == k:
                at_k = found
            if found >= enough:
                asked = buckets == TAILS[0] and length == k
                remark = "" if asked else f"instead of the tail at {k}, hit {at_k} times"
                return Measure(buckets, length, remark)
    remark = f"{found} hits of both, fewer than {enough}"
    return Measure(TAILS[-1], lists[-1], remark, tells=found * _TOO_FEW >= enough)
