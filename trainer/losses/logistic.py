"""Binary cross-entropy: each pair by itself; with logQ noise-contrastive estimation."""

from __future__ import annotations

from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig
from trainer.functional import pair_losses
from trainer.functional.noise_contrastive import noise_contrastive
from trainer.losses.scored import Scored


def logistic(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    """Scalar; a sigmoid is not shift invariant, so that logQ needs the learned log Z."""
    if settings.log_q == "none":
        return pair_losses.binary_cross_entropy(
            batch.hardest(hardest), batch.weights, negatives_weight=settings.bce_weight
        )
    noise = batch.columns - 1  # all but the row's own
    return noise_contrastive(
        batch.corrected(noise),
        batch.log_z,
        noise,
        batch.weights,
        negatives_weight=settings.bce_weight,
    )
