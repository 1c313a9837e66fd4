"""What a batch is before its loss by row: scores and masks of the candidates.

As `task_sources`, not converted by AutoGraph.
"""

from __future__ import annotations

from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig
from trainer.functional import masks, similarity
from trainer.negatives.sources import Candidates


@tf.autograph.experimental.do_not_convert
def scored(
    queries: tf.Tensor, candidates: Candidates, known: tf.Tensor | None, settings: LossConfig
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`[B, C]` scores, masked where a candidate is no negative of a row.

    Args:
      queries: `[B, D]`.
      candidates: C of them, the first B those of the rows; `rows` where accidental hits are removed.
      known: `[B, C]` bool, True where a candidate was drawn and is no negative of the row.
      settings: temperature, and whether accidental hits are removed.

    Returns:
      The scores; `[B]` number of columns that were drawn, the row's own among them; and `[B]` how
      many of these hold another item than the row's positive.
    """
    scores = similarity.scores(
        queries,
        candidates.items,
        settings.temperature,
        constants=candidates.remembered,
        negatives_share=candidates.share,
    )
    shape, considered = tf.shape(scores), candidates.is_negative
    columns, masked = tf.fill(shape[:1], tf.cast(shape[1], tf.float32)), None
    if considered is not None:
        masked = masks.but_positives(tf.logical_not(considered), shape)
        columns -= _count(masked)
    draws = columns - 1
    if settings.remove_accidental_hits:
        hits = masks.accidental_hits(candidates.rows[: shape[0]], candidates.rows)
        draws -= _count(hits if masked is None else hits & ~masked)
        masked = hits if masked is None else masked | hits
    if known is not None:
        masked = known if masked is None else masked | known
    return scores if masked is None else masks.apply_mask(scores, masked), columns, draws


@tf.autograph.experimental.do_not_convert
def refused(
    queries: tf.Tensor, items: tf.Tensor | None, is_refused: tf.Tensor, settings: LossConfig
) -> tf.Tensor | None:
    """`[B, R]` scores of the items `[B, R, D]` that each user refused; None without any."""
    if items is None:
        return None
    own = tf.einsum("bd,brd->br", queries / settings.temperature, items)
    return masks.apply_mask(own, tf.logical_not(is_refused))


def _count(mask: tf.Tensor) -> tf.Tensor:
    """`[B]` float, how many of a row are True."""
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
