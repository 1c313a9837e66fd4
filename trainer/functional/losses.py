"""Losses over a matrix of scores: the sampled softmax, and the contrastive loss of two views."""

from __future__ import annotations

from typing import Any, Literal

from trainer.base.keras2 import tf
from trainer.functional.similarity import l2_normalize
from trainer.functional.similarity import scores as inner_products


def sampled_softmax(
    scores: tf.Tensor,
    positive_index: tf.Tensor | None = None,
    weights: tf.Tensor | None = None,
    *,
    reduction: Literal["mean", "none"] = "mean",
) -> tf.Tensor:
    """Softmax over the candidates: loss = -(1/B) sum_i r_i log P(positive_i).

    The sum is divided by B, as in the paper, and not by the sum of the weights: a batch of small
    rewards moves the model less. It is a mean, so the batch size does not act as a learning rate.

    Source: Yi et al., RecSys 2019, section 3, equations 4 and 5 (L_B, there with logQ inside).

    Args:
      scores: `[B, C]` logits; corrected by logQ and masked where wanted.
      positive_index: `[B]` integer column of each row's positive. Without it row i's positive is
        column i, and further columns (C > B) are further negatives.
      weights: `[B]` rewards r_i; 1 without it.
      reduction: "mean" for the loss above, "none" for the B terms r_i * -log P(positive_i).

    Returns:
      Scalar, or `[B]`; float32 at least. 0 for an empty batch.

    Raises:
      ValueError: a diagonal of positives does not fit (C < B), or an unknown reduction.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: expected 'mean' or 'none', received {reduction!r}")
    if scores.dtype in (tf.float16, tf.bfloat16):
        scores = tf.cast(scores, tf.float32)
    if positive_index is None:
        rows, columns = scores.shape[0], scores.shape[1]
        if rows is not None and columns is not None and columns < rows:
            raise ValueError(
                f"scores: expected at least as many candidates as rows, received {scores.shape}; "
                "pass positive_index where the positives are not on the diagonal"
            )
    losses = _negative_log_softmax(scores, positive_index)
    if weights is not None:
        losses = losses * tf.cast(weights, losses.dtype)
    if reduction == "none":
        return losses
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.shape(losses)[0], losses.dtype))


def _negative_log_softmax(scores: tf.Tensor, positive_index: tf.Tensor | None) -> tf.Tensor:
    """`[B]` -log P(positive_i), with the gradient P - one_hot written out; None is the diagonal.

    With the row maximum taken off first nothing overflows, and at logits of 1e30 a tie still costs
    log 2 (logsumexp minus score would round it away). The exponentials are kept for the gradient.
    """

    @tf.custom_gradient
    def of(scores: tf.Tensor) -> Any:
        shifted = scores - tf.reduce_max(scores, axis=1, keepdims=True)
        exponentials = tf.exp(shifted)
        normalizer = tf.reduce_sum(exponentials, axis=1)
        if positive_index is None:
            positives = tf.linalg.diag_part(shifted)
        else:
            positives = tf.gather(shifted, positive_index, batch_dims=1)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            of_scores = exponentials * (upstream / normalizer)[:, tf.newaxis]
            if positive_index is None:  # set_diag works in place, a scatter copies
                diagonal = tf.linalg.diag_part(of_scores) - upstream
                return tf.linalg.set_diag(of_scores, diagonal)
            rows = tf.range(tf.shape(positive_index)[0], dtype=positive_index.dtype)
            at = tf.stack([rows, positive_index], axis=1)
            return tf.tensor_scatter_nd_sub(of_scores, at, upstream)

        return tf.math.log(normalizer) - positives, gradient

    return of(scores)


def contrastive(view_a: tf.Tensor, view_b: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    """Contrasts two views of m items: -(1/m) sum_i log softmax_j(cos(a_i, b_j) / tau) at j = i.

    Source: Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021,
    section 3.1, L_self. One direction (a to b), as there. An item that is in the batch twice is a
    negative of itself; items drawn uniformly from a large table seldom are.

    Args:
      view_a: `[m, D]` embeddings of the first view; need not be normalised.
      view_b: `[m, D]` embeddings of the second view, in the same order; further rows are further
        negatives.
      temperature: tau > 0.

    Returns:
      Scalar. 0 for a single item, which has nothing to be told apart from.

    Raises:
      ValueError: a float temperature is not above 0.
    """
    return sampled_softmax(inner_products(l2_normalize(view_a), l2_normalize(view_b), temperature))
