"""Explicit negatives: the items that a user was shown and refused, for that user's training examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base import ragged
from preprocessing.log import splits


@dataclass(frozen=True)
class Refusals:
    """The refusals [n] of some users, sorted by user, time and order in the log."""

    user: NDArray[Any]
    item: NDArray[Any]
    time: NDArray[Any]


def newest(
    refusals: Refusals,
    user: NDArray[Any],
    item: NDArray[Any],
    time: NDArray[Any],
    end: int | None,
    limit: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The last items that each training user refused in the training period and never took in it.

    Supervision and not a feature: every example of a user carries the same list, one before a refusal too, so the
    list is as of the end of training and not as of the example.

    Args:
      refusals: of all users; the codes are those of ``user``.
      user, item, time: training interactions [n], sorted by user and time.
      end: microseconds, the first instant after training; None where each user's training ends with the own last
        interaction of it, that instant included.
      limit: items kept at most, the newest.

    Returns:
      Offsets [training users + 1] and items, each once, by their last refusal, oldest first.
    """
    starts, sizes = splits.runs(user)
    codes = user[starts]
    until = time[starts + sizes - 1] + 1 if end is None else np.full(len(codes), end)
    rows = np.flatnonzero(np.isin(refusals.user, codes))
    owner = np.searchsorted(codes, refusals.user[rows])
    width = max(item.max(initial=0), refusals.item.max(initial=0)) + 1
    taken = np.repeat(np.arange(len(codes)), sizes) * width + item
    pairs = owner * width + refusals.item[rows]
    counts = (refusals.time[rows] < until[owner]) & ~np.isin(pairs, taken)
    rows, owner, pairs = rows[counts], owner[counts], pairs[counts]
    last = np.sort(len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1])
    held = np.bincount(owner[last], minlength=len(codes))
    kept = np.minimum(held, limit)
    return ragged.slices(np.cumsum(held) - kept, kept, refusals.item[rows[last]])
