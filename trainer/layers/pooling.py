"""The weighted mean of embeddings, with a gradient that stays small.

A batch of 1,024 histories of 50 items reads 51,200 rows, many of them more than once. Reading each
distinct row once makes what reaches the optimizer as small as the distinct rows are few.
"""

from __future__ import annotations

from typing import Any

from trainer.keras_gate import tf


def weighted_mean(table: tf.Variable, indices: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Averages rows of a table: sum_l w_l table[i_l] / sum_l w_l, or row 0 where all w are 0.

    Args:
      table: `[V, D]` variable; its gradient is `tf.IndexedSlices` with each index once.
      indices: `[B, L]` integers.
      weights: `[B, L]` floats >= 0, 0 where a value does not count (padding).

    Returns:
      `[B, D]`.
    """
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    is_empty = total <= 0
    first = tf.one_hot(
        tf.zeros([tf.shape(indices)[0]], tf.int32), tf.shape(indices)[1], dtype=weights.dtype
    )
    weights = tf.where(is_empty, first, weights / tf.where(is_empty, tf.ones_like(total), total))
    # Padding reads row 0 with weight 0, as does everything of an empty list.
    indices = tf.where(is_empty, tf.zeros_like(indices), indices)
    distinct, places = tf.unique(tf.reshape(indices, [-1]))
    rows = tf.gather(table, distinct)
    return _pooled(rows, weights, tf.reshape(places, tf.shape(indices)))


@tf.custom_gradient
def _pooled(rows: tf.Tensor, weights: tf.Tensor, places: tf.Tensor) -> Any:
    """`[B, D]` sums of `rows [U, D]` at `places [B, L]`, weighted by `weights [B, L]`."""
    taken = tf.gather(rows, places)
    pooled = tf.einsum("bl,bld->bd", weights, taken)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        of_weights = tf.einsum("bd,bld->bl", upstream, taken)
        # Transposed weights times upstream, as a sparse product: autodiff would write out the [B,
        # L, D] outer product first, which is most of the time of the whole layer.
        batch, length = tf.unstack(tf.shape(weights))
        queries = tf.repeat(tf.range(batch), length)
        of_rows = tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=tf.stack(
                [queries, tf.reshape(places, [-1])], axis=1
            ),  # int32: half the bytes
            a_values=tf.reshape(weights, [-1]),
            a_shape=tf.cast(tf.stack([batch, tf.shape(rows)[0]]), tf.int64),
            b=upstream,
            adjoint_a=True,
        )
        return of_rows, of_weights, None

    return pooled, gradient
