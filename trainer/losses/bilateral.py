"""Bilateral softmax: positives and negatives each with a temperature of their own."""

from __future__ import annotations

from trainer.base import replicas
from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig
from trainer.functional import pair_losses
from trainer.losses.scored import Scored


def bilateral(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    """Scalar; the positives of a user, on all replicas, share one sum."""
    return pair_losses.bilateral_softmax(
        batch.hardest(hardest),
        batch.groups,
        positive_temperature=settings.bsl_ratio,
        positives=tf.linalg.diag_part(batch.scores),
        weights=batch.weights,
        gather=replicas.own_first,
    )
