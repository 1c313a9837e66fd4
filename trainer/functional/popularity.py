"""Log popularity of items: what stands in the popularity coordinate of the towers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_UNSEEN = 0.5
"""Examples that an item without any counts as: half of what the rarest seen item has."""


def trained(examples: ArrayLike) -> NDArray[np.float32]:
    """Log P of each item among the training examples, `log((n_j + 1/2) / N)`.

    Args:
      examples: `[N + 1]` training examples by row; row 0 is padding.

    Returns:
      `[N + 1]` natural logs.
    """
    counts = np.maximum(np.asarray(examples, np.float64), 0)
    return np.log((counts + _UNSEEN) / max(counts.sum(), 1)).astype(np.float32)


def current(examples: ArrayLike, recent: ArrayLike, pseudo_events: float) -> NDArray[np.float32]:
    """Log P of each item now: recent counts, shrunk to the share that the item had in all of training.

    `log P_j + log((c_j + k) / (C P_j + k))` with the decayed counts c_j, their sum C and k pseudo-events: an item with
    few recent events keeps its long-term popularity, one with many has its recent one.

    Args:
      examples: `[N + 1]` training examples by row.
      recent: `[N + 1]` counts in which an event weighs 2^(-age / half-life).
      pseudo_events: k > 0.

    Returns:
      `[N + 1]` natural logs.
    """
    if not pseudo_events > 0:
        raise ValueError(f"pseudo_events: expected a number above 0, received {pseudo_events}")
    counts, decayed = np.asarray(examples, np.float64), np.asarray(recent, np.float64)
    share = counts / max(counts.sum(), 1)
    trend = np.log((decayed + pseudo_events) / (share * decayed.sum() + pseudo_events))
    return (trained(counts) + trend).astype(np.float32)
