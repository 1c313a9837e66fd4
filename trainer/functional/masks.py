"""Masks: of candidates that are no negatives, and of features for self-supervision.

In every mask True means masked. Random masks come from `tf.random.stateless_*`: the same seed gives
the same mask, eagerly, in a graph and after a restart.

The four augmentations are those of Yao et al., "Self-supervised Learning for Large-scale Item
Recommendations", CIKM 2021, section 3.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.base.keras2 import tf


def accidental_hits(
    item_ids: tf.Tensor, candidate_ids: tf.Tensor, positive_index: tf.Tensor | None = None
) -> tf.Tensor:
    """Finds candidates that are the row's positive item once more, in another column.

    Args:
      item_ids: `[B]` id of each row's positive item.
      candidate_ids: `[C]` id of each candidate, of the same type.
      positive_index: `[B]` column of each row's positive; column i of row i without it.

    Returns:
      `[B, C]` bool. Never True at a row's own positive column.
    """
    same_item = item_ids[:, tf.newaxis] == candidate_ids[tf.newaxis, :]
    if positive_index is None:
        return but_positives(same_item, tf.shape(same_item))
    columns = tf.range(tf.shape(candidate_ids)[0], dtype=positive_index.dtype)
    return same_item & (positive_index[:, tf.newaxis] != columns[tf.newaxis, :])


def but_positives(mask: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """`[B, C]`: the mask (`[B, C]` or `[C]` bool), but never True at a row's positive, column i."""
    mask = tf.broadcast_to(mask, shape)
    return tf.linalg.set_diag(mask, tf.zeros([tf.minimum(shape[0], shape[1])], tf.bool))


def apply_mask(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Replaces masked scores by so low a value that they carry exactly no softmax mass.

    Replaces and never adds: adding a constant leaves a score of 1e30 (or, with a wrong constant,
    any score) where it was. Half the lowest value of the type is taken, so that a later
    subtraction, of the row maximum say, cannot reach -inf. No gradient flows to a masked score.

    Args:
      scores: `[B, C]` logits.
      mask: bool, broadcastable to `[B, C]`. A row masked everywhere gets a uniform softmax.

    Returns:
      `[B, C]` logits.
    """
    return tf.where(mask, tf.cast(scores.dtype.min / 2, scores.dtype), scores)


def random_mask(
    num_items: int | tf.Tensor, num_features: int, rate: float, seed: tf.Tensor
) -> tf.Tensor:
    """Masks each feature of each item on its own with probability `rate`.

    Args:
      num_items: m.
      num_features: k.
      rate: probability in [0, 1] of being masked.
      seed: `[2]` integers; the two views need different ones.

    Returns:
      `[m, k]` bool.
    """
    return tf.random.stateless_uniform([num_items, num_features], seed) < rate


def complementary_masks(
    num_items: int | tf.Tensor, num_features: int, seed: tf.Tensor, *, per_item: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits the features at random: view 1 masks floor(k/2) of them, view 2 all the others.

    One split per batch is the default on purpose: with a split per item the pattern of masked
    features alone tells which rows of the two views belong together, and the tower may learn that.

    Args:
      num_items: m.
      num_features: k >= 2.
      seed: `[2]` integers.
      per_item: draw a split for each item instead of one for the batch.

    Returns:
      A pair of `[m, k]` bool masks, one for each view; the second is the complement of the first.

    Raises:
      ValueError: fewer than two features.
    """
    _require_two(num_features)
    draws = tf.random.stateless_uniform([num_items if per_item else 1, num_features], seed)
    ranks = tf.argsort(tf.argsort(draws, axis=1), axis=1)
    first = tf.broadcast_to(ranks < num_features // 2, [num_items, num_features])
    return first, ~first


def correlated_mask_table(mutual_information: ArrayLike) -> NDArray[np.bool_]:
    """For each seed feature, which features view 1 masks: the seed and its floor(k/2) most related.

    Features that say the same thing are masked together, so that the masked view cannot copy the
    answer from a neighbour.

    Args:
      mutual_information: `[k, k]` with MI(U, V) = sum p(u,v) log(p(u,v) / (p(u) p(v))), k >= 2.
        The diagonal (a feature's entropy) is ignored; of equals the first is taken.

    Returns:
      `[k, k]` bool; row s belongs to seed s. For k = 2 only the seed: masking both features would
      leave view 1 empty.

    Raises:
      ValueError: not a square matrix of at least 2 x 2, or not finite.
    """
    related = np.array(mutual_information, dtype=np.float64)  # a copy: the diagonal is overwritten
    if related.ndim != 2 or related.shape[0] != related.shape[1]:
        raise ValueError(f"mutual_information: expected [k, k], received shape {related.shape}")
    if not np.isfinite(related).all():
        raise ValueError("mutual_information: expected finite numbers, received NaN or infinity")
    k = related.shape[0]
    _require_two(k)
    np.fill_diagonal(related, -np.inf)
    most_related = np.argsort(-related, axis=1, kind="stable")[:, : min(k // 2, k - 2)]
    table = np.eye(k, dtype=np.bool_)
    np.put_along_axis(table, most_related, True, axis=1)
    return table


def correlated_masks(
    table: NDArray[np.bool_], num_items: int | tf.Tensor, seed: tf.Tensor, *, per_item: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Masks a random seed feature with its most related ones in view 1, the complement in view 2.

    Args:
      table: `[k, k]` bool from `correlated_mask_table`.
      num_items: m.
      seed: `[2]` integers.
      per_item: draw a seed feature for each item instead of one for the batch, as the paper does
        (`complementary_masks` says why).

    Returns:
      A pair of `[m, k]` bool masks. View 2 keeps exactly what view 1 masks.
    """
    k = len(table)
    seeds = tf.random.stateless_uniform(
        [num_items if per_item else 1], seed, minval=0, maxval=k, dtype=tf.int32
    )
    first = tf.broadcast_to(tf.gather(tf.constant(table, tf.bool), seeds), [num_items, k])
    return first, ~first


def value_dropout(values: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Drops single values of a multi-valued feature: each becomes padding (0) with probability p.

    Args:
      values: `[m, n]` integer indices, 0 = padding.
      rate: p in [0, 1].
      seed: `[2]` integers; the two views need different ones.

    Returns:
      `[m, n]`; an item may lose all its values.
    """
    dropped = tf.random.stateless_uniform(tf.shape(values), seed) < rate
    return tf.where(dropped, tf.zeros_like(values), values)


def mask_values(values: tf.Tensor, masked: tf.Tensor) -> tf.Tensor:
    """Blanks one feature of the masked items: index 0, or 0.0 (the mean of a z-score).

    Args:
      values: `[m, ...]` the feature's values.
      masked: `[m]` bool.

    Returns:
      `[m, ...]` of the same type.
    """
    masked = tf.reshape(masked, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(masked, tf.zeros_like(values), values)


def unknown_values(
    values: tf.Tensor,
    rate: float,
    seed: tf.Tensor,
    *,
    first: int,
    count: int,
    or_missing: bool = False,
) -> tf.Tensor:
    """Replaces single values, as if their keys were not in the vocabulary.

    The row that an unknown key reads would else never have a gradient, since all keys of training
    are in the vocabulary.

    Args:
      values: `[...]` integer indices, 0 = padding or missing; those stay.
      rate: probability of each value in [0, 1].
      seed: `[2]` integers.
      first: the lowest row that unknown keys read.
      count: how many rows there are, `first` to `first + count - 1`; one is drawn of them.
      or_missing: 0, what a missing value reads, is one more of them.

    Returns:
      `[...]` of the same type.
    """
    if not rate:
        return values
    draws = tf.random.stateless_uniform(tf.shape(values), seed)
    places = count + int(or_missing)
    # Given that it is below the rate, a draw is uniform below it.
    place = tf.minimum(tf.cast(draws * (places / rate), values.dtype), places - 1)
    unknown = tf.where(place < count, first + place, tf.zeros_like(place))
    return tf.where((draws < rate) & (values != 0), unknown, values)


def _require_two(num_features: int) -> None:
    if num_features < 2:
        raise ValueError(
            f"expected at least 2 features to split between two views, received {num_features}"
        )
