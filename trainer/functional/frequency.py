"""How often items occur in a stream, estimated from the steps between their occurrences.

Three quantities belong to an item, and only the first is estimated directly:

* its *interval* B: batches from one batch that holds it to the next one, at least 1;
* its probability *per batch*, 1 / B: that a batch holds it at all, once or more often. At most 1;
* its probability *per draw*, q: that one draw of the batch gives it. 1 / B = 1 - (1 - q)^batch_size.

The last two differ by a factor of about the batch size (see `logq`).

Source: Yi et al., RecSys 2019, section 4, algorithms 2 (one hash) and 3 (several).
"""

from __future__ import annotations

import numpy as np

from trainer.base.keras2 import tf

# SplitMix64 (Steele et al., OOPSLA 2014): hash i is output i of the generator seeded with the row,
# less its last step, which mixes the lower half alone. Multiply-shift would be cheaper, but is
# linear: rows are consecutive numbers, and where two collide, all pairs of their distance tend to.
_SEED_STEP = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def buckets(rows: tf.Tensor, num_buckets: int, num_hashes: int) -> tf.Tensor:
    """Hashes item rows with m independent functions; the same everywhere and for ever.

    Args:
      rows: `[N]` integers of any width; negative ones too.
      num_buckets: H, buckets of each hash, 1 to `MAX_BUCKETS`.
      num_hashes: m.

    Returns:
      `[m, N]` int64 in 0..H - 1.

    Raises:
      ValueError: `rows` are no integers or not `[N]`.
    """
    rows = tf.convert_to_tensor(rows)
    if not rows.dtype.is_integer or rows.shape.rank not in (1, None):
        raise ValueError(
            f"rows: expected integers [N], received {rows.dtype.name} of shape {rows.shape}"
        )
    seeds = [_SEED_STEP * i % 2**64 for i in range(1, num_hashes + 1)]
    # By way of int64, so that -1 is the same item as int32 and as int64.
    hashed = tf.cast(tf.cast(rows, tf.int64), tf.uint64) + _uint64(seeds)[:, None]
    for shift, factor in _ROUNDS:
        hashed = tf.bitwise.bitwise_xor(hashed, _shifted(hashed, shift))
        hashed *= _uint64(factor)
    # The upper half as a fraction of 2^32, times H: no division.
    scaled = _shifted(hashed, 32) * _uint64(num_buckets)
    return tf.cast(_shifted(scaled, 32), tf.int64)


def updated_interval(
    interval: tf.Tensor, last_seen: tf.Tensor, step: tf.Tensor, learning_rate: float
) -> tf.Tensor:
    """The intervals of buckets that occur in the batch of a step: B' = (1 - a) B + a (t - A).

    In words: the steps waited since the last occurrence pull the running mean B towards them. A
    bucket that was already seen at this step keeps its B, so B stays at or above 1.

    Source: Yi et al., algorithm 2, line 5; the first t is 1, with A = 0.

    Args:
      interval: B, float, any shape.
      last_seen: A, int64 of the same shape: the step of the last occurrence, 0 before the first.
      step: t, int64 scalar.
      learning_rate: a in (0, 1]. The estimate spans about 1 / a occurrences; its relative standard
        deviation is about sqrt(a / 2).

    Returns:
      B', of the shape of `interval`.
    """
    waited = tf.cast(step - last_seen, interval.dtype)
    # Not as the sum of two products, which rounds to below 1 where both are 1.
    updated = interval + learning_rate * (waited - interval)
    return tf.where(waited > 0, updated, interval)


def log_probability_per_batch(intervals: tf.Tensor) -> tf.Tensor:
    """Log probability that a batch holds the item at least once: log(1 / max_i B_i).

    In words: another item in the same bucket shortens the interval, never lengthens it, so the
    longest one is the least spoilt by collisions.

    Source: Yi et al., algorithm 3; with m = 1 algorithm 2.

    Args:
      intervals: `[m, N]` B_i of each item's bucket under each hash.

    Returns:
      `[N]` log p per batch, at most 0.
    """
    return -tf.math.log(tf.reduce_max(intervals, axis=0))


def log_probability_per_draw(log_p_per_batch: tf.Tensor, batch_size: int | tf.Tensor) -> tf.Tensor:
    """Approximate log probability of one draw: log p_batch - log batch_size.

    Takes 1 - (1 - q)^batch_size for batch_size q. That is too small for frequent items: by a third
    at batch_size q = 1, and it cannot exceed 1 / batch_size however frequent an item is.

    Args:
      log_p_per_batch: `[N]` log probability that a batch holds the item.
      batch_size: draws of a batch, of all replicas together.

    Returns:
      `[N]` log q per draw.
    """
    return log_p_per_batch - tf.math.log(tf.cast(batch_size, log_p_per_batch.dtype))


def log_probability_per_draw_exact(
    log_p_per_batch: tf.Tensor, batch_size: int | tf.Tensor, resolution: float = 0.01
) -> tf.Tensor:
    """Log probability of one draw, inverted exactly: q = 1 - (1 - p_batch)^(1 / batch_size).

    Holds for independent draws with replacement. An item in (nearly) every batch has p_batch = 1,
    and any q above some value would do: p_batch is taken as 1 - resolution at most, so that q ends
    at about -log(resolution) / batch_size.

    Args:
      log_p_per_batch: `[N]` log probability that a batch holds the item, at most 0.
      batch_size: draws of a batch, of all replicas together.
      resolution: the share of batches without the item that can still be told from none; the
        learning rate is a good value, as the estimate spans 1 / a occurrences.

    Returns:
      `[N]` log q per draw.
    """
    p = tf.minimum(tf.exp(log_p_per_batch), 1 - resolution)
    return tf.math.log(-tf.math.expm1(tf.math.log1p(-p) / tf.cast(batch_size, p.dtype)))


def _shifted(values: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(values, _uint64(bits))


def _uint64(values: int | list[int]) -> tf.Tensor:
    # By way of NumPy: with NumPy 2, `tf.constant` rounds a list of such integers to float64, silently.
    return tf.constant(np.array(values, np.uint64))
