"""Random draws of items."""

from __future__ import annotations

from trainer.base.keras2 import tf


def uniform_rows(num_items: int, m: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws `[m]` int64 rows of 1 to N uniformly, with replacement; never row 0, the padding.

    Args:
      num_items: N.
      m: how many.
      seed: `[2]` integers; the same seed draws the same rows, eagerly and in a graph.
    """
    return tf.random.stateless_uniform([m], seed, minval=1, maxval=num_items + 1, dtype=tf.int64)
