"""The mean of the items of a history, by learned weights of recency."""

from __future__ import annotations

from preprocessing.features import Feature
from trainer.keras_gate import keras, tf
from trainer.layers.embeddings import FeatureEmbeddings
from trainer.layers.pooling import weighted_mean


class HistoryMean(keras.layers.Layer):
    """One sequence feature: rows -> an item feature -> its shared embedding -> weighted mean.

    The weight of an item depends on its place p, 0 for the newest: exp(w_p) / sum over the history
    of exp(w). The w start at 0, a plain mean. An empty history gives the row of index 0.
    """

    def __init__(
        self,
        sequence: Feature,
        item_feature: Feature,
        embeddings: FeatureEmbeddings,
        item_values: tf.Tensor,
        item_weights: tf.Tensor | None = None,
    ) -> None:
        """Sets the layer up.

        Args:
          sequence: the feature of kind `sequence`; its `max_length` newest items count.
          item_feature: the one that it shares with.
          embeddings: of the item tower, which owns the table.
          item_values: `[N + 1]` (or `[N + 1, n]`) values of the item feature by row.
          item_weights: `[N + 1, n]` of a weighted item feature.
        """
        super().__init__(name=sequence.name)
        self._sequence, self._item_feature = sequence, item_feature
        self._embeddings = embeddings
        self._item_values, self._item_weights = item_values, item_weights
        self.place_weights = self.add_weight(
            name="places", shape=[sequence.max_length], initializer="zeros"
        )

    @property
    def width(self) -> int:
        """Columns of the output."""
        return int(self._embeddings.table(self._item_feature).shape[1])

    def call(self, history: tf.Tensor) -> tf.Tensor:
        """Pools histories.

        Args:
          history: `[B, L]` item rows, oldest first; zeros are padding wherever they stand.

        Returns:
          `[B, D]`.
        """
        # A history without columns (all empty, unpadded) has no first place to read index 0 at.
        history = tf.pad(history, [[0, 0], [0, tf.cast(tf.shape(history)[1] == 0, tf.int32)]])
        is_item = tf.cast(history != 0, tf.int32)
        place = tf.cumsum(is_item, axis=1, reverse=True, exclusive=True)
        longest = self._sequence.max_length
        counts = tf.cast(is_item, tf.float32) * tf.cast(place < longest, tf.float32)
        weights = counts * tf.gather(tf.exp(self.place_weights), tf.minimum(place, longest - 1))
        values = tf.gather(self._item_values, history)
        if not self._item_feature.is_multivalued:
            return weighted_mean(self._embeddings.table(self._item_feature), values, weights)
        of_items = None if self._item_weights is None else tf.gather(self._item_weights, history)
        vectors = self._embeddings.lookup(self._item_feature, values, of_items)
        total = tf.reduce_sum(weights, axis=1, keepdims=True)
        pooled = tf.einsum("bl,bld->bd", tf.math.divide_no_nan(weights, total), vectors)
        return tf.where(
            total > 0, pooled, tf.gather(self._embeddings.table(self._item_feature), [0])
        )
