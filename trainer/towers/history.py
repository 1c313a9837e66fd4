"""The mean of the items of a history, by learned weights of recency."""

from __future__ import annotations

from typing import NamedTuple

from preprocessing.features import Feature
from trainer.base.keras2 import keras, tf
from trainer.data.item_column import ItemColumn
from trainer.towers.embeddings import FeatureEmbeddings
from trainer.towers.pooling import weighted_mean


class Histories(NamedTuple):
    """The histories of a batch, read once for all features that look at them.

    Attributes:
      items: `[U]` distinct item rows, padding among them.
      positions: `[B, L]` where in `items` each item of a history stands.
      is_item: `[B, L]` float 1 or 0 of padding.
      age: `[B, L]` how many items of the history are newer.
    """

    items: tf.Tensor
    positions: tf.Tensor
    is_item: tf.Tensor
    age: tf.Tensor

    @classmethod
    def read(cls, history: tf.Tensor) -> Histories:
        """Takes `[B, L]` item rows, oldest first; zeros are padding wherever they stand."""
        # A history without columns (all empty, unpadded) has no first place to read index 0 at. Not
        # by `tf.pad`: a GPU has no kernel of it for int64.
        batch, missing = tf.shape(history)[0], tf.cast(tf.shape(history)[1] == 0, tf.int32)
        history = tf.concat([history, tf.zeros([batch, missing], history.dtype)], axis=1)
        is_item = tf.cast(history != 0, tf.int64)
        age = tf.cumsum(is_item, axis=1, reverse=True, exclusive=True)
        items, positions = tf.unique(tf.reshape(history, [-1]), out_idx=tf.int64)
        return cls(
            items, tf.reshape(positions, tf.shape(history)), tf.cast(is_item, tf.float32), age
        )


class HistoryMean(keras.layers.Layer):
    """One sequence feature: rows -> an item feature -> its shared embedding -> weighted mean.

    The weight of an item depends on its age p, 0 for the newest: exp(w_p) / sum over the history
    of exp(w). The w start at 0, a plain mean. An empty history gives the row of index 0.
    """

    def __init__(
        self,
        sequence: Feature,
        item_feature: Feature,
        embeddings: FeatureEmbeddings,
        item_values: ItemColumn,
        item_weights: ItemColumn | None = None,
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

    @property
    def item_variables(self) -> list[tf.Variable]:
        """What is read of the item table; the data hold it, so that no checkpoint does."""
        return [c.variable for c in (self._item_values, self._item_weights) if c is not None]

    def call(
        self, histories: Histories, unknown_rate: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Pools histories.

        Args:
          histories: of a batch.
          unknown_rate: share of the distinct items that are read as items of unknown keys.
          seed: `[2]` integers, wanted where the rate is not 0.

        Returns:
          `[B, D]`.
        """
        longest = self._sequence.max_length
        counts = histories.is_item * tf.cast(histories.age < longest, tf.float32)
        of_age = tf.gather(tf.exp(self.place_weights), tf.minimum(histories.age, longest - 1))
        weights = None if self._item_weights is None else self._item_weights.read(histories.items)
        values = self._item_values.read(histories.items)
        if unknown_rate:
            values = self._embeddings.with_unknown(self._item_feature, values, unknown_rate, seed)
        vectors = self._embeddings.lookup(self._item_feature, values, weights)
        return weighted_mean(vectors, histories.positions, counts * of_age)
