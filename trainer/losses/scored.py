"""What a loss by row gets: the scores of a batch, what was drawn, what is certain, and their correction."""

from __future__ import annotations

from typing import NamedTuple

from trainer.base.keras2 import tf
from trainer.functional import logq, mining


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

    def hardest(self, number: int | None) -> tf.Tensor:
        """`[B, C + R]` corrected scores of which the `number` highest negatives are left; all without it."""
        scores = self.corrected(self.columns)
        return mining.keep_hardest(scores, number) if number else scores
