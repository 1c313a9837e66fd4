"""What a user had before an instant, without look-ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base import ragged
from preprocessing.log import splits


def histories(
    user: NDArray[Any], item: NDArray[Any], time: NDArray[Any], length: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The last items of each user strictly before each interaction's instant: a basket never sees itself.

    Args:
      user, item, time: [n], sorted by user and time.
      length: items kept at most.

    Returns:
      Offsets [n + 1] and items, oldest first.
    """
    user_start, user_size = splits.runs(user)
    start = np.repeat(user_start, user_size)
    instant = (
        np.concatenate([[0], np.cumsum((user[1:] != user[:-1]) | (time[1:] != time[:-1]))])
        if len(user)
        else user
    )
    now_start, now_size = splits.runs(instant)
    now = np.repeat(now_start, now_size)
    sizes = np.minimum(now - start, length)
    return ragged.slices(now - sizes, sizes, item)
