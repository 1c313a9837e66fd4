"""How alike a query and an item are: the inner product of their embeddings over a temperature."""

from __future__ import annotations

from typing import Any

from trainer.base.keras2 import tf


def l2_normalize(vectors: tf.Tensor, *, epsilon: float = 1e-12) -> tf.Tensor:
    """Scales each vector to length 1: x / ||x||.

    `tf.math.l2_normalize` has a gradient of up to 1e6 at a zero vector and squares its input, which
    overflows at 1e20. Here a zero vector gives zero, in value and in gradient, and the size of the
    vector does not matter.

    Args:
      vectors: `[..., D]` floats.
      epsilon: vectors whose largest component is not above this count as zero.

    Returns:
      `[..., D]`, of length 1, or of length 0 where the input was (nearly) zero.
    """
    # The result does not depend on the scale, so taking the scale for a constant is exact: the
    # Jacobian of x/||x|| at x is 1/c times the one at x/c.
    scale = tf.stop_gradient(tf.reduce_max(tf.abs(vectors), axis=-1, keepdims=True))
    is_zero = scale <= tf.cast(epsilon, vectors.dtype)
    scaled = vectors * tf.where(is_zero, tf.zeros_like(scale), tf.math.reciprocal_no_nan(scale))
    squared = tf.reduce_sum(tf.square(scaled), axis=-1, keepdims=True)
    # The inner where keeps rsqrt away from 0, whose infinite gradient would be NaN times zero.
    return scaled * tf.math.rsqrt(tf.where(is_zero, tf.ones_like(squared), squared))


def scores(
    query: tf.Tensor,
    items: tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
    *,
    constants: tf.Tensor | None = None,
    negatives_share: tf.Tensor | None = None,
) -> tf.Tensor:
    """Scores every query against every item: s(x, y) = <u(x), v(y)> / tau.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, section 3 (inner product) and 4 (normalisation, temperature).
    Nothing is normalised here: the towers do that.

    Args:
      query: `[B, D]` query embeddings u.
      items: `[C, D]` item embeddings v; row i < B is the positive of query i where
        `negatives_share` is given.
      temperature: tau > 0; a float, or a scalar tensor where it is learned.
      constants: `[M, D]` embeddings of further items, which learn nothing (a memory bank).
      negatives_share: `[C]` factors of what each of `items` learns from the queries whose positive
        it is not; see `balanced_share`. Values do not depend on it.

    Returns:
      `[B, C + M]` scores (logits).

    Raises:
      ValueError: the embeddings are not matrices, or a float temperature is not above 0.
    """
    for name, embeddings in (("query", query), ("items", items)):
        if embeddings.shape.rank not in (2, None):
            raise ValueError(
                f"{name}: expected embeddings [rows, dimension], received shape {embeddings.shape};"
                " reduce multi-vector embeddings to one vector a row first"
            )
    if isinstance(temperature, (int, float)) and not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, received {temperature}")
    every = items if constants is None else tf.concat([items, constants], axis=0)
    every = tf.stop_gradient(every)

    @tf.custom_gradient
    def of(query: tf.Tensor, items: tf.Tensor) -> Any:
        """The products, with gradients that cost less than autodiff's.

        Its gradient of the items multiplies by the transposed [B, C] matrix, which on a CPU takes
        twice as long (3.4 against 1.8 ms at 1024 x 1024 x 65) as transposing the [D, C] product,
        and it would multiply for the constants, too.
        """

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            learned = upstream if constants is None else upstream[:, : tf.shape(items)[0]]
            of_items = tf.transpose(tf.matmul(query, learned, transpose_a=True))
            if negatives_share is not None:
                share = tf.cast(negatives_share, query.dtype)[:, tf.newaxis]
                batch = tf.shape(query)[0]
                own = tf.linalg.diag_part(learned)[:, tf.newaxis] * query
                own *= 1 - share[:batch]  # the positives' part is not scaled
                of_items = share * of_items + tf.pad(own, [[0, tf.shape(items)[0] - batch], [0, 0]])
            return tf.matmul(upstream, every), of_items

        return tf.matmul(query, every, transpose_b=True), gradient

    # Dividing [B, D] is cheaper than dividing [B, C].
    return of(query / tf.cast(temperature, query.dtype), items)


def balanced_share(learning: tf.Tensor, constant: tf.Tensor) -> tf.Tensor:
    """How much more the items that learn have to be pushed off, beside some that cannot learn.

    An item is drawn towards the query that it is the positive of, always, and pushed away from all
    queries that it is a negative of. Where M of the negatives drawn from the same distribution are
    constants, only the share B / (B + M) of that push arrives, and items with many positives, the
    popular ones, drift towards every query. The factor (B + M) / B makes up for it: the expected
    gradient of an item is that of B + M learning negatives. Neither CBNS nor MoCo does so.

    Args:
      learning: B, number of candidates that learn.
      constant: M, number that do not.

    Returns:
      Scalar float32, at least 1; 1 for B = 0.
    """
    learning, constant = (tf.cast(n, tf.float32) for n in (learning, constant))
    return 1.0 + tf.math.divide_no_nan(constant, learning)


@tf.custom_gradient
def learning_by(vectors: tf.Tensor, share: tf.Tensor) -> Any:
    """The vectors `[C, D]` themselves, with gradients times `share [C]`."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return upstream * tf.cast(share, upstream.dtype)[:, tf.newaxis], None

    return tf.identity(vectors), gradient
