"""Answers without the items that the request excludes."""

from __future__ import annotations

from typing import Any

from serving.index.interface import PAD_SCORE, Index
from trainer.base.keras2 import tf


def search_without(index: Index, queries: Any, excluded: Any, k: Any) -> tuple[Any, Any]:
    """The best ``k`` items of each query that are not excluded.

    The index is asked for ``k`` and as many more as the longest list of the batch excludes, each item
    counted once, so that dropping them leaves ``k``: an exact index stays exact. It is never asked
    for more than it has, unless ``k`` is more.

    Args:
      index: built.
      queries: float32 [B, D].
      excluded: rows int64 [B, E] in any order, repeats allowed; 0 is padding.
      k: int32 scalar.

    Returns:
      Scores float32 [B, k] and rows int64 [B, k], best first; row 0 with ``PAD_SCORE`` where the
      catalogue ends.
    """
    scores, rows = index.search(queries, search_width(excluded, k, index.num_items))
    kept = tf.where(_contains(excluded, rows, index.num_items + 1), PAD_SCORE, scores)
    best, order = tf.math.top_k(kept, k)  # sorted already; keeps the order of equal scores
    return best, tf.where(best > PAD_SCORE, tf.gather(rows, order, batch_dims=1), 0)


def search_width(excluded: Any, k: Any, num_items: int) -> Any:
    """How many items have to be found, so that ``k`` are left: an int32 scalar.

    Args:
      excluded: rows int64 [B, E]; repeats and 0 count for nothing.
      k: int32 scalar.
      num_items: of the index.
    """
    ordered = tf.sort(excluded, axis=1)
    before = tf.pad(ordered[:, :-1], [[0, 0], [tf.minimum(tf.shape(ordered)[1], 1), 0]])
    new = tf.not_equal(ordered, before)  # rows are above 0, so that padding is never new
    # Of an empty batch the maximum is the lowest number.
    longest = tf.maximum(tf.reduce_max(tf.math.count_nonzero(new, axis=1, dtype=tf.int32)), 0)
    return tf.maximum(k, tf.minimum(k + longest, num_items))


def _contains(sets: Any, rows: Any, num_rows: int) -> Any:
    """Whether each of ``rows`` [B, M] is in the set [B, E] of its query.

    By sorting and bisection: comparing all pairs takes B x M x E memory, which a long request could
    turn against the server.
    """
    own = tf.range(tf.shape(rows, out_type=tf.int64)[0])[:, tf.newaxis] * num_rows
    keys = tf.reshape(rows + own, [-1])
    # The sentinel at the end is larger than any key: bisection never leaves the array, even without
    # exclusions.
    ordered = tf.concat([tf.sort(tf.reshape(sets + own, [-1])), [tf.int64.max]], axis=0)
    found = tf.gather(ordered, tf.searchsorted(ordered, keys))
    return tf.reshape(tf.equal(found, keys), tf.shape(rows))
