"""Brute force: every inner product, then the best of them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from serving.index.interface import PAD_SCORE, Index, checked_items, padded
from trainer.base.keras2 import tf

CHUNK_ITEMS = 262_144
"""Items scored at once by up to 64 queries, which then hold 64 MB of scores, of any catalogue."""
_CHUNK_QUERIES = 64
"""More queries score fewer items at once: the memory of a search does not grow with its batch."""


class ExactIndex(Index):
    """All items, exactly; memory of a search is bounded by 64 x ``chunk_items``, not by B x N."""

    is_exact = True

    def __init__(self, chunk_items: int = CHUNK_ITEMS) -> None:
        super().__init__(name="exact_index")
        self._chunk_items = chunk_items

    def build(self, items: NDArray[Any]) -> None:
        """See ``Index.build``."""
        checked = checked_items(items)
        self.num_items, self.dim = checked.shape
        self._items = tf.Variable(checked, trainable=False, name="items")

    def search(self, queries: Any, k: Any) -> tuple[Any, Any]:
        """See ``Index.search``; equal scores keep the order of rows."""
        take = tf.minimum(k, self.num_items)
        chunk = self._chunk_items * _CHUNK_QUERIES // tf.maximum(tf.shape(queries)[0], 1)
        chunk = tf.clip_by_value(chunk, 1, self._chunk_items)
        scores, places = tf.cond(
            chunk >= self.num_items,
            lambda: tuple(tf.math.top_k(self._scores(queries, self._items), take)),
            lambda: self._search_chunks(queries, take, chunk),
        )
        return padded(scores, tf.cast(places, tf.int64) + 1, k)

    def vectors(self, rows: Any) -> Any:
        """See ``Index.vectors``."""
        return tf.gather(self._items, rows - 1)

    def _scores(self, queries: Any, items: Any) -> Any:
        return tf.matmul(queries, items, transpose_b=True)

    def _search_chunks(self, queries: Any, take: Any, chunk: Any) -> tuple[Any, Any]:
        """The best so far [B, take] merged with the best of one chunk after the other."""

        def merge(start: Any, best_scores: Any, best_places: Any) -> tuple[Any, Any, Any]:
            items = self._items[start : start + chunk]
            scores, places = tf.math.top_k(
                self._scores(queries, items), tf.minimum(take, tf.shape(items)[0])
            )
            all_scores = tf.concat([best_scores, scores], axis=1)
            all_places = tf.concat([best_places, places + start], axis=1)
            # The best so far stand first: top_k prefers the earlier of equal scores, hence the
            # lower row.
            merged, order = tf.math.top_k(all_scores, take)
            return start + chunk, merged, tf.gather(all_places, order, batch_dims=1)

        shape = [tf.shape(queries)[0], take]
        start = (tf.constant(0), tf.fill(shape, PAD_SCORE), tf.zeros(shape, tf.int32))
        unknown = (tf.TensorShape([]), tf.TensorShape([None, None]), tf.TensorShape([None, None]))
        # One chunk at a time: iterations in parallel would hold the scores of several chunks.
        _, scores, places = tf.while_loop(
            lambda at, *_: at < self.num_items,
            merge,
            start,
            shape_invariants=unknown,
            parallel_iterations=1,
        )
        return scores, places
