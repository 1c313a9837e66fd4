"""Sampled softmax: the positive among the candidates, with or without a correction by what was drawn."""

from __future__ import annotations

from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig
from trainer.functional import losses
from trainer.functional.corrected_softmax import corrected_softmax
from trainer.losses.scored import Scored


def softmax(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    """Scalar; with `log_q: corrected` the positive leaves the denominator that is estimated."""
    if settings.log_q == "corrected":
        return corrected_softmax(
            batch.scores, batch.log_q, batch.weights, num_draws=batch.draws, certain=batch.refused
        )
    return losses.sampled_softmax(batch.hardest(hardest), weights=batch.weights)
