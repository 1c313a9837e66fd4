"""Noise-contrastive estimation: tell the positive from noise whose probabilities are known."""

from __future__ import annotations

import math

from trainer.base.keras2 import tf
from trainer.functional.pair_losses import Reduction, binary_cross_entropy


def noise_contrastive(
    scores: tf.Tensor,
    log_z: tf.Tensor,
    num_draws: tf.Tensor,
    weights: tf.Tensor | None = None,
    *,
    negatives_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> tf.Tensor:
    """`binary_cross_entropy` of logits that know how probable each candidate was as noise.

        l_id = s_id - log Z - log(w Q_d)

    In words: an item that is often drawn as noise has to score higher to pass for a positive. With
    Q of one draw, and the negatives' part being w times a *mean* over the draws, w stands where the
    paper has nu, the number of noise samples a positive: there the part is a sum. The loss is least
    where s_id - log Z = log P(d | i): the scores that softmax with logQ learns.

    A sigmoid is not shift invariant, so the normaliser counts, which a softmax does without. It is
    a parameter that is learned with the others, as in the paper. Left out, s - log Q is about 11 for
    every item of a catalogue of 65,000: all pass for positives, and nothing is learned.

    A draw that is masked for a row (its positive once more, or what its user is known to want) adds
    nothing and still counts in the mean: it is as the draws fell. Without the positive's further
    draws among the negatives, log P becomes log P / (1 - P).

    Source: Gutmann & Hyvarinen, "Noise-contrastive estimation: A new estimation principle for
    unnormalized statistical models", AISTATS 2010, equations 3 and 4; with nu in JMLR 13 (2012).

    Args:
      scores: `[B, C]` s - log Q: logits corrected by `logq.correct`, with probabilities per draw
        (not per batch). Row i's positive is column i; candidates masked by `masks.apply_mask` add
        nothing.
      log_z: scalar, to be learned; log |V| is a good start, at which equal scores are normalised.
      num_draws: `[B]` draws of each row but its positive, the masked ones too.
      weights: `[B]` rewards r_i; 1 without it.
      negatives_weight: w > 0.
      reduction: "mean" for the loss above, "none" for its B terms.

    Returns:
      Scalar, or `[B]`; float32 at least.

    Raises:
      ValueError: as `binary_cross_entropy`.
    """
    return binary_cross_entropy(
        scores - (tf.cast(log_z, scores.dtype) + math.log(negatives_weight)),
        weights,
        negatives_weight=negatives_weight,
        num_draws=num_draws,
        reduction=reduction,
    )
