"""Metrics of ranked lists against held-out items, in NumPy and without a loop over users.

A ranking is `ranked [U, K]`: integer item ids, best first, 0 = padding. What a user should have
been shown is ragged: `Targets`. The usual way is

    found = hits(ranked, targets)                      # once, [U, K]
    recall = recall_at_k(found, targets.counts, 100)   # [U], NaN for users without targets
    mean_over_users(recall)

A user without targets has no recall: the per-user metrics say NaN, and `mean_over_users` leaves
such users out instead of counting them as 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Targets:
    """The distinct items that each user should have been shown.

    Attributes:
      users: `[T]` user row (0 to num_users - 1) of each target, ascending.
      items: `[T]` item id of each target, > 0, ascending within a user, without duplicates.
      num_users: U, also counting users without targets.
    """

    users: Ints
    items: Ints
    num_users: int

    @classmethod
    def from_pairs(cls, users: ArrayLike, items: ArrayLike, num_users: int) -> Targets:
        """Sorts (user row, item id) pairs `[T]`, `[T]` and drops duplicates and padding (id 0).

        Raises:
          ValueError: lengths differ, a user row is outside [0, num_users), or an id is negative.
        """
        user, item = np.asarray(users, np.int64), np.asarray(items, np.int64)
        if user.shape != item.shape or user.ndim != 1:
            raise ValueError(
                f"expected users [T] and items [T], received {user.shape}, {item.shape}"
            )
        if user.size and (user.min() < 0 or user.max() >= num_users or item.min() < 0):
            raise ValueError(
                f"expected user rows from 0 to {num_users - 1} and item ids >= 0, received users "
                f"from {user.min()} to {user.max()} and ids from {item.min()}"
            )
        # One key per pair: sorting numbers is ten times as fast as sorting rows.
        width = int(item.max(initial=0)) + 1
        rows, ids = np.divmod(np.unique((user * width + item)[item > 0]), width)
        return cls(users=rows, items=ids, num_users=num_users)

    @classmethod
    def from_lists(cls, lists: Iterable[Iterable[int]]) -> Targets:
        """Takes one list of item ids per user."""
        arrays = [np.asarray(list(items), np.int64) for items in lists]
        users = np.repeat(np.arange(len(arrays)), [len(items) for items in arrays])
        items = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        return cls.from_pairs(users, items, len(arrays))

    @property
    def counts(self) -> Ints:
        """`[U]` number of targets of each user."""
        return np.bincount(self.users, minlength=self.num_users)

    def restrict(self, wanted: ArrayLike) -> Targets:
        """Keeps the targets whose id is True in `wanted [max id + 1]`; the ranking stays as it is.

        For a popularity bucket: `targets.restrict(bucket_of_item == bucket)`.
        """
        keep = np.asarray(wanted, np.bool_)[self.items]
        return Targets(self.users[keep], self.items[keep], self.num_users)


def hits(ranked: ArrayLike, targets: Targets) -> Bools:
    """Marks the places of a ranking that hold one of the user's targets.

    Args:
      ranked: `[U, K]` item ids, 0 = padding. An item ranked twice counts at its first place only.
      targets: for the same U users.

    Returns:
      `[U, K]` bool.

    Raises:
      ValueError: `ranked` is not a matrix of as many rows as `targets` has users.
    """
    ids = np.asarray(ranked, np.int64)
    if ids.ndim != 2 or ids.shape[0] != targets.num_users:
        raise ValueError(f"ranked: expected [{targets.num_users}, K], received shape {ids.shape}")
    found = np.zeros(ids.size, np.bool_)
    if not targets.items.size or not ids.size:
        return found.reshape(ids.shape)
    # One sorted key per (user, item) lets a single binary search serve all users.
    width = max(int(ids.max()), int(targets.items.max())) + 1
    wanted = targets.users * width + targets.items
    given = (np.arange(ids.shape[0])[:, None] * width + ids).ravel()
    place = np.minimum(np.searchsorted(wanted, given), len(wanted) - 1)
    match = np.flatnonzero((wanted[place] == given) & (ids.ravel() > 0))
    _, first = np.unique(place[match], return_index=True)
    found[match[first]] = True
    return found.reshape(ids.shape)


def recall_at_k(found: Bools, num_targets: ArrayLike, k: int) -> Floats:
    """Share of what could be found that was: hits in the first k / min(number of targets, k).

    Args:
      found: `[U, K]` from `hits`, K >= k.
      num_targets: `[U]` number of targets of each user.
      k: length of the list that is judged.

    Returns:
      `[U]` in [0, 1]; NaN for users without targets.

    Raises:
      ValueError: k is not within 1 and K.
    """
    hits_at_k = _first(found, k).sum(axis=1)
    return _divide(hits_at_k, np.minimum(np.asarray(num_targets), k))


def ndcg_at_k(found: Bools, num_targets: ArrayLike, k: int) -> Floats:
    """Binary NDCG: sum of 1 / log2(rank + 1) over hits, over that of the best possible ranking.

    The best ranking has its first min(number of targets, k) places right. Source: Järvelin and
    Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

    Args, returns and errors: as `recall_at_k`.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gain = _first(found, k) @ discounts
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(np.asarray(num_targets), k)]
    return _divide(gain, ideal)


def mrr_at_k(found: Bools, num_targets: ArrayLike, k: int) -> Floats:
    """Reciprocal rank of the first hit among the first k; 0 without a hit.

    Args, returns and errors: as `recall_at_k`.
    """
    top = _first(found, k)
    rank = np.argmax(top, axis=1) + 1
    return np.where(np.asarray(num_targets) > 0, top.any(axis=1) / rank, np.nan)


def mean_over_users(per_user: Floats) -> float:
    """Mean over the users that have a value; NaN (without a warning) if none has."""
    known = per_user[~np.isnan(per_user)]
    return float(known.mean()) if known.size else float("nan")


def coverage_at_k(ranked: ArrayLike, k: int, num_items: int) -> float:
    """Share of a catalogue of `num_items` that is in anybody's first k of `ranked [U, K]`."""
    top = _first(np.asarray(ranked, np.int64), k)
    return len(np.unique(top[top > 0])) / num_items


def gini_of_exposure(ranked: ArrayLike, k: int, num_items: int) -> float:
    """Gini coefficient of how often each item of the catalogue is shown.

    G = sum_i (2i - n - 1) x_i / (n sum x), with the n exposures x ascending: 0 if all items are
    shown equally often, (n - 1)/n if one item takes everything.

    Args:
      ranked: `[U, K]` item ids, 0 = padding.
      k: places that count.
      num_items: n, the size of the catalogue; items never shown count as 0.

    Returns:
      In [0, 1); NaN if nothing is shown at all.
    """
    top = _first(np.asarray(ranked, np.int64), k)
    _, shown = np.unique(top[top > 0], return_counts=True)
    if not shown.size:
        return float("nan")
    # Items never shown come first in ascending order and add nothing to the sum.
    order = np.arange(num_items - len(shown) + 1, num_items + 1)
    weighted = ((2 * order - num_items - 1) * np.sort(shown)).sum()
    return float(weighted / (num_items * shown.sum()))


def mean_popularity(ranked: ArrayLike, k: int, popularity: ArrayLike) -> float:
    """Mean over users of the mean popularity of what each was shown.

    Source: the ARP of Abdollahpouri et al., "Managing Popularity Bias in Recommender Systems with
    Personalized Re-ranking", FLAIRS 2019.

    Args:
      ranked: `[U, K]` item ids, 0 = padding.
      k: places that count.
      popularity: `[max id + 1]`, such as each item's number of training events.

    Returns:
      In the unit of `popularity`; NaN if nothing is shown at all.
    """
    top = _first(np.asarray(ranked, np.int64), k)
    shown = top > 0
    total = np.where(shown, np.asarray(popularity, np.float64)[top], 0.0).sum(axis=1)
    return mean_over_users(_divide(total, shown.sum(axis=1)))


def _first(matrix: NDArray[Scalar], k: int) -> NDArray[Scalar]:
    if not 1 <= k <= matrix.shape[1]:
        raise ValueError(
            f"k: expected from 1 to the {matrix.shape[1]} columns of the ranking, received {k}; "
            "rank more items, and pad short rankings with id 0"
        )
    return matrix[:, :k]


def _divide(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Divides, and gives NaN without a warning where whole is 0."""
    divisor = np.asarray(whole, np.float64)
    quotient: Floats = np.asarray(part, np.float64) / np.where(divisor > 0, divisor, np.nan)
    return quotient
