"""The losses over a batch's scores, by kind and correction."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainer.base import replicas
from trainer.base.keras_gate import tf
from trainer.config.loss import LossConfig
from trainer.functional import logq, losses, mining, pair_losses
from trainer.functional.corrected_softmax import corrected_softmax
from trainer.functional.noise_contrastive import noise_contrastive


class Scored(NamedTuple):
    """A batch, scored.

    Attributes:
      scores: `[B, C]`, masked where a candidate is no negative of a row, and not corrected.
      log_q: `[C]` log probability per draw; None without a correction.
      columns: `[B]` of the C columns those that were drawn, masked or not; the row's own counts.
      draws: `[B]` of them those that hold another item than the row's positive.
      refused: `[B, R]` scores of items that are negatives for certain, masked where there is none.
      weights: `[B]` rewards, or None.
      groups: `[B]` users, for the bilateral softmax.
      log_z: scalar that noise-contrastive estimation learns.
    """

    scores: tf.Tensor
    log_q: tf.Tensor | None
    columns: tf.Tensor
    draws: tf.Tensor
    refused: tf.Tensor | None
    weights: tf.Tensor | None
    groups: tf.Tensor | None
    log_z: tf.Tensor | None

    def with_refused(self) -> tf.Tensor:
        """`[B, C + R]` scores."""
        if self.refused is None:
            return self.scores
        return tf.concat([self.scores, self.refused], axis=1)

    def corrected(self, drawn: tf.Tensor) -> tf.Tensor:
        """`[B, C + R]` scores minus log Q; what is certain is expected once in `drawn [B]` draws."""
        if self.log_q is None:
            return self.with_refused()
        scores = logq.correct(self.scores, self.log_q)
        if self.refused is None:
            return scores
        shift = tf.math.log(tf.maximum(tf.cast(drawn, scores.dtype), 1))
        return tf.concat([scores, self.refused + shift[:, tf.newaxis]], axis=1)


Loss = Callable[[Scored, LossConfig, int | None], tf.Tensor]


def _softmax(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    return losses.sampled_softmax(_hardest(batch, hardest), weights=batch.weights)


def _corrected_softmax(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    return corrected_softmax(
        batch.scores, batch.log_q, batch.weights, num_draws=batch.draws, certain=batch.refused
    )


def _bilateral(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    return pair_losses.bilateral_softmax(
        _hardest(batch, hardest),
        batch.groups,
        positive_temperature=settings.bsl_ratio,
        positives=tf.linalg.diag_part(batch.scores),
        weights=batch.weights,
        gather=replicas.own_first,
    )


def _logistic(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    return pair_losses.binary_cross_entropy(
        _hardest(batch, hardest), batch.weights, negatives_weight=settings.bce_weight
    )


def _noise_contrastive(batch: Scored, settings: LossConfig, hardest: int | None) -> tf.Tensor:
    noise = batch.columns - 1  # all but the row's own
    return noise_contrastive(
        batch.corrected(noise),
        batch.log_z,
        noise,
        batch.weights,
        negatives_weight=settings.bce_weight,
    )


def _hardest(batch: Scored, hardest: int | None) -> tf.Tensor:
    scores = batch.corrected(batch.columns)
    return mining.keep_hardest(scores, hardest) if hardest else scores


_LOSSES: dict[tuple[str, str], Loss] = {
    ("softmax", "none"): _softmax,
    ("softmax", "standard"): _softmax,
    ("softmax", "corrected"): _corrected_softmax,
    ("bsl", "none"): _bilateral,
    ("bsl", "standard"): _bilateral,
    ("bce", "none"): _logistic,
    ("bce", "standard"): _noise_contrastive,
}


@tf.autograph.experimental.do_not_convert
def loss_of(batch: Scored, settings: LossConfig, hardest: int | None = None) -> tf.Tensor:
    """The loss that `kind` and `log_q` name.

    Args:
      batch: what `settings` needs of it.
      settings: the section `loss`; `kind` is none of the gramian, which has no scores.
      hardest: negatives that count, all without it.

    Returns:
      Scalar.
    """
    return _LOSSES[settings.kind, settings.log_q](batch, settings, hardest)
