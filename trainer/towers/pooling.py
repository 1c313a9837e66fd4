"""The weighted mean of embeddings, with a gradient that stays small.

A batch of 1,024 histories of 50 items reads 51,200 vectors, many of them more than once. Whoever
reads each distinct one once makes what reaches the optimizer as small as the distinct ones are few.
"""

from __future__ import annotations

from typing import Any

from trainer.base.keras2 import tf


def weighted_mean(vectors: tf.Tensor, positions: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Averages vectors: sum_l w_l vectors[p_l] / sum_l w_l, or vectors[p_0] where all w are 0.

    Args:
      vectors: `[U, D]`.
      positions: `[B, L]` int64, L >= 1.
      weights: `[B, L]` floats >= 0, 0 where a value does not count (padding).

    Returns:
      `[B, D]`.
    """
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    is_empty = total <= 0
    first = tf.one_hot(
        tf.zeros([tf.shape(weights)[0]], tf.int64), tf.shape(weights)[1], dtype=weights.dtype
    )
    weights = tf.where(is_empty, first, weights / tf.where(is_empty, tf.ones_like(total), total))
    return _pooled(vectors, weights, positions)


@tf.custom_gradient
def _pooled(vectors: tf.Tensor, weights: tf.Tensor, positions: tf.Tensor) -> Any:
    """`[B, D]` sums of `vectors [U, D]` at `positions [B, L]`, weighted by `weights [B, L]`."""
    taken = tf.gather(vectors, positions)
    pooled = tf.einsum("bl,bld->bd", weights, taken)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
        of_weights = tf.einsum("bd,bld->bl", upstream, taken)
        # Transposed weights times upstream, as a sparse product: autodiff would write out the [B,
        # L, D] outer product first, which is most of the time of the whole layer.
        batch, length = tf.unstack(tf.shape(weights, tf.int64))
        queries = tf.repeat(tf.range(batch), length)
        of_vectors = tf.raw_ops.SparseTensorDenseMatMul(
            a_indices=tf.stack([queries, tf.reshape(positions, [-1])], axis=1),
            a_values=tf.reshape(weights, [-1]),
            a_shape=tf.stack([batch, tf.shape(vectors, tf.int64)[0]]),
            b=upstream,
            adjoint_a=True,
        )
        return of_vectors, of_weights, None

    return pooled, gradient
