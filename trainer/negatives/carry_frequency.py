"""Brings the estimates of a stream to another day: the stream goes on, its items may have other rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.base.keras2 import tf
from trainer.data.vocabulary import Rows
from trainer.functional import frequency
from trainer.negatives.frequency import FrequencyEstimator


def carry_frequency(
    old: FrequencyEstimator, new: FrequencyEstimator, rows: Rows, steps: int
) -> None:
    """Continues a stream whose steps are counted from 1 again.

    Steps of the past become zero and negative, so that a wait across the night is counted whole.
    Where the catalogue only grew at its end, items keep their rows and all buckets are taken as
    they are. Else an item's estimate moves to its new bucket; items that share one there occur in
    it as often as all of them together.

    Args:
      old: restored.
      new: freshly made; overwritten.
      rows: the items of both days.
      steps: that `old` has seen.
    """
    alike = (old.buckets, old.hashes) == (new.buckets, new.hashes)
    if alike and np.array_equal(rows.old, rows.new):
        new.interval.assign(old.interval)
        new.last_seen.assign(old.last_seen - steps)
        return
    interval, last_seen = old.interval.numpy(), old.last_seen.numpy()
    before = _slots(old, rows.old)
    # Another item in the bucket shortens the interval and comes later, never the other way.
    own_interval, own_last = interval[before].max(axis=0), last_seen[before].min(axis=0)
    seen = own_last > 0
    after = _slots(new, rows.new)[:, seen]
    rate = np.zeros(new.interval.shape[0])
    newest = np.full(new.last_seen.shape[0], -steps, np.int64)
    for slots in after:
        np.add.at(rate, slots, 1.0 / own_interval[seen])
        np.maximum.at(newest, slots, own_last[seen] - steps)
    fresh = new.interval.numpy()
    known = rate > 0
    fresh[known] = np.maximum(1.0, 1.0 / rate[known])
    new.interval.assign(fresh)
    new.last_seen.assign(newest)


def _slots(estimator: FrequencyEstimator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[m, n]` places of rows in the variables."""
    hashed = frequency.buckets(tf.constant(rows), estimator.buckets, estimator.hashes).numpy()
    slots: NDArray[np.int64] = hashed + estimator.buckets * np.arange(estimator.hashes)[:, None]
    return slots
