"""The gramian loss: all pairs of queries and candidates, without their scores."""

from __future__ import annotations

from typing import NamedTuple

from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig
from trainer.functional import pair_losses, similarity


class Pairs(NamedTuple):
    """A batch that is not scored.

    Attributes:
      queries: `[B, D]`.
      candidates: `[C - M, D]`, the positives first.
      log_q: `[C]`, or None without a correction.
      weights: `[B]` rewards, or None.
      considered: `[C]` bool, or None: all.
      remembered: `[M, D]` candidates that learn nothing, or None.
      share: `[C - M]` factor of what each candidate learns as a negative, or None.
    """

    queries: tf.Tensor
    candidates: tf.Tensor
    log_q: tf.Tensor | None
    weights: tf.Tensor | None
    considered: tf.Tensor | None
    remembered: tf.Tensor | None
    share: tf.Tensor | None


def gramian(batch: Pairs, settings: LossConfig) -> tf.Tensor:
    """Scalar.

    Raises:
      ValueError: `considered` is by row.
    """
    scaled, candidates, log_q = batch.queries / settings.temperature, batch.candidates, batch.log_q
    positives = tf.reduce_sum(scaled * candidates[: tf.shape(scaled)[0]], axis=1)
    if batch.share is not None:
        candidates = similarity.learning_by(candidates, batch.share)
    if batch.remembered is not None:
        candidates = tf.concat([candidates, tf.stop_gradient(batch.remembered)], axis=0)
    if batch.considered is not None:
        if batch.considered.shape.rank != 1:
            raise ValueError(
                "score_mask: expected one value per candidate [C] for loss kind 'gramian', "
                f"received shape {batch.considered.shape}"
            )
        candidates = tf.boolean_mask(candidates, batch.considered)
        log_q = None if log_q is None else tf.boolean_mask(log_q, batch.considered)
    return pair_losses.gramian(
        scaled,
        candidates,
        positives,
        log_q,
        weight=settings.gramian_weight,
        sample_weights=batch.weights,
    )
