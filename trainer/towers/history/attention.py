"""Attention of learned queries to the items of a history."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.base.keras2 import keras, tf
from trainer.config.history import HistoryConfig
from trainer.towers.embeddings import seed_of
from trainer.towers.history.histories import Histories
from trainer.towers.history.interface import HistoryEncoder
from trainer.towers.history.sequence import SequenceColumn

_BARRED = -1e9
"""Added to the logit of what does not count; a softmax makes an exact 0 of it."""


class HistoryAttention(HistoryEncoder):
    """x_l = the features of item l side by side; head h gives sum_l softmax_l(q_h . tanh(W x_l) + b_h,age(l)) x_l.

    Source: the attention over words of Yang et al., "Hierarchical Attention Networks for Document
    Classification", NAACL 2016, equations 5 to 7, with several queries and a learned bias of recency.
    """

    def __init__(
        self, columns: Sequence[SequenceColumn], settings: HistoryConfig, seed: int
    ) -> None:
        super().__init__(columns)
        self._heads = settings.heads
        self._longest = max(column.max_length for column in self.columns)
        self._of_position = sum(column.width for column in self.columns)

        def drawn(name: str) -> keras.initializers.Initializer:
            return keras.initializers.GlorotUniform(seed=seed_of(seed, f"history_{name}"))

        width = self._of_position
        self.keys = self.add_weight(name="keys", shape=[width, width], initializer=drawn("keys"))
        self.queries = self.add_weight(
            name="queries", shape=[width, self._heads], initializer=drawn("queries")
        )
        self.ages = self.add_weight(
            name="ages", shape=[self._longest, self._heads], initializer="zeros"
        )

    @property
    def width(self) -> int:
        """Heads times the sum of the features' widths."""
        return self._heads * self._of_position

    def call(
        self, histories: Histories, unknown_rate: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """See `HistoryEncoder.call`; time and memory `[B, L]` times the features' widths."""
        parts = []
        for column in self.columns:
            taken = tf.gather(column.vectors(histories, unknown_rate, seed), histories.positions)
            if column.max_length < self._longest:
                newest = tf.cast(histories.age < column.max_length, taken.dtype)
                taken *= newest[:, :, tf.newaxis]
            parts.append(taken)
        items = tf.concat(parts, axis=2)  # [B, L, W]
        keys = tf.tanh(tf.einsum("blw,wv->blv", items, self.keys))
        ages = tf.minimum(histories.age, self._longest - 1)
        logits = tf.einsum("blv,vh->blh", keys, self.queries) + tf.gather(self.ages, ages)
        counts = histories.is_item * tf.cast(histories.age < self._longest, tf.float32)
        is_empty = tf.reduce_sum(counts, axis=1, keepdims=True) <= 0
        first = tf.one_hot(tf.zeros_like(histories.positions[:, 0]), tf.shape(counts)[1])
        counts = tf.where(is_empty, first, counts)
        weights = tf.nn.softmax(logits + _BARRED * (1.0 - counts)[:, :, tf.newaxis], axis=1)
        pooled = tf.einsum("blh,blw->bhw", weights, items)
        return tf.reshape(pooled, [-1, self.width])
