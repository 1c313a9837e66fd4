"""The sampled softmax whose positive is no sample: the corrected logQ correction."""

from __future__ import annotations

from typing import Any, Literal

from trainer.base.keras2 import tf
from trainer.functional import logq


def corrected_softmax(
    scores: tf.Tensor,
    log_q: tf.Tensor,
    weights: tf.Tensor | None = None,
    *,
    num_draws: tf.Tensor | None = None,
    certain: tf.Tensor | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> tf.Tensor:
    """Softmax of the positive against an estimate of all other items' mass.

    With n_i negatives drawn from Q, and Q'_i(d) = Q(d) / (1 - Q(pos_i)),

        Z_i = sum over the negatives d of exp(s_id) / (n_i Q'_i(d))

    estimates the sum of exp(s) over the catalogue without the positive, free of bias. The positive
    stands beside it as it is: P_i = exp(s_ii) / (exp(s_ii) + Z_i). In `logq.correct` the positive
    is divided by its Q as if it had been sampled.

    A draw that is masked for another reason (the user is known to want the item) adds nothing and
    still counts in n_i: Z_i then estimates, free of bias, the mass of the items that are left.
    Without it in n_i, the draws that are left would stand for the masked ones too.

    The paper minimises stop_gradient(1 - P_i) (log Z_i - s_ii). That has the gradient of -log P_i,
    so the value here is (1/B) sum_i r_i (-log P_i), which can be compared with other softmaxes.

    Source: Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax for
    Large-Scale Retrieval", RecSys 2025, arXiv 2507.09331.

    Args:
      scores: `[B, C]` logits, *not* corrected by logQ. Row i's positive is column i. Candidates
        masked by `masks.apply_mask` are no negatives; the positive item in further columns
        (accidental hits) should be among them, since Q' leaves it out.
      log_q: `[C]` log probability of each candidate per draw (not per batch).
      weights: `[B]` rewards r_i; 1 without it.
      num_draws: `[B]` n_i, the draws that gave another item than the positive, masked or not; the
        number of unmasked negatives without it.
      certain: `[B, R]` logits of negatives that were not drawn but are there for certain, masked
        where there is none. Each adds exp(s) to Z_i, and nothing to n_i.
      reduction: "mean" for the loss above, "none" for the B terms r_i * -log P_i.

    Returns:
      Scalar, or `[B]`; float32 at least. A row without negatives gives 0, as does an empty batch.

    Raises:
      ValueError: C < B, an unknown reduction, a `log_q` that `logq.correct` refuses, or a positive
        with Q >= 1 (in a graph `tf.errors.InvalidArgumentError`).
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: expected 'mean' or 'none', received {reduction!r}")
    rows, columns = scores.shape[0], scores.shape[1]
    if rows is not None and columns is not None and columns < rows:
        raise ValueError(
            f"scores: expected at least as many candidates as rows, received {scores.shape}"
        )
    masked = float(scores.dtype.min) / 2  # before the cast: of the type that was masked
    if scores.dtype in (tf.float16, tf.bfloat16):
        scores = tf.cast(scores, tf.float32)
    log_q = logq.checked(scores, log_q)
    corrected = scores - log_q
    if num_draws is None:
        # Half of it: log_q has moved a masked score, if at all, by a little.
        drawn = tf.cast(corrected > masked / 2, scores.dtype)
        num_draws = tf.reduce_sum(drawn, axis=1) - tf.linalg.diag_part(drawn)
    # What Q' and n_i add to a logit is the same in the whole row, so it is left out of the matrix.
    log_share = logq.log_complement(log_q[: tf.shape(scores)[0]])
    log_share -= tf.math.log(tf.maximum(tf.cast(num_draws, scores.dtype), 1))
    positives, negatives = tf.linalg.diag_part(scores), corrected
    if certain is not None:
        own = tf.cast(certain, scores.dtype) - log_share[:, tf.newaxis]
        negatives = tf.concat([negatives, own], axis=1)
    losses = _negative_log_probability(positives, negatives, log_share, masked)
    if weights is not None:
        losses = losses * tf.cast(weights, losses.dtype)
    if reduction == "none":
        return losses
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.shape(losses)[0], losses.dtype))


def _negative_log_probability(
    positives: tf.Tensor, negatives: tf.Tensor, log_share: tf.Tensor, masked: float
) -> tf.Tensor:
    """`[B]` -log P_i = softplus(log Z_i - s_ii), with the gradient written out.

    Args:
      positives: `[B]` s_ii.
      negatives: `[B, C]` logits, of which column i of row i is not read.
      log_share: `[B]` what is added to all of a row's.
      masked: the score of a masked candidate.
    """
    log_share = tf.stop_gradient(log_share)

    @tf.custom_gradient
    def of(positives: tf.Tensor, negatives: tf.Tensor) -> Any:
        out = tf.fill(tf.shape(positives), tf.constant(masked, negatives.dtype))
        others = tf.linalg.set_diag(negatives, out)
        largest = tf.reduce_max(others, axis=1)
        exponentials = tf.exp(others - largest[:, tf.newaxis])
        total = tf.reduce_sum(exponentials, axis=1)
        margin = (largest - positives) + (tf.math.log(total) + log_share)
        zeros, any_left = tf.zeros_like(margin), largest > masked / 2

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pull = upstream * tf.where(any_left, tf.sigmoid(margin), zeros)  # r_i (1 - P_i)
            of_negatives = exponentials * (pull / total)[:, tf.newaxis]
            return -pull, tf.linalg.set_diag(of_negatives, zeros)

        return tf.where(any_left, tf.math.softplus(margin), zeros), gradient

    return of(positives, negatives)
