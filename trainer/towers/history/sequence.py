"""One sequence feature: rows -> values of an item feature -> vectors of its shared embedding."""

from __future__ import annotations

from preprocessing.features import Feature
from trainer.base.keras2 import tf
from trainer.data.item_column import ItemColumn
from trainer.towers.embeddings import FeatureEmbeddings
from trainer.towers.history.histories import Histories


class SequenceColumn:
    """The vectors of a history's items by one of their features.

    Args:
      sequence: the feature of kind `sequence`; its `max_length` newest items count.
      item_feature: the one that it shares with.
      embeddings: of the item tower, which owns the table.
      item_values: `[N + 1]` (or `[N + 1, n]`) values of the item feature by row.
      item_weights: `[N + 1, n]` of a weighted item feature.
    """

    def __init__(
        self,
        sequence: Feature,
        item_feature: Feature,
        embeddings: FeatureEmbeddings,
        item_values: ItemColumn,
        item_weights: ItemColumn | None = None,
    ) -> None:
        self.name, self.max_length = sequence.name, sequence.max_length
        self._item_feature, self.embeddings = item_feature, embeddings
        self._item_values, self._item_weights = item_values, item_weights

    @property
    def width(self) -> int:
        """D, columns of the vectors."""
        return int(self.embeddings.table(self._item_feature).shape[1])

    @property
    def item_variables(self) -> list[tf.Variable]:
        """What is read of the item table."""
        return [c.variable for c in (self._item_values, self._item_weights) if c is not None]

    def vectors(
        self, histories: Histories, unknown_rate: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """`[U, D]` of the distinct items of a batch; see `HistoryEncoder.call`."""
        weights = None if self._item_weights is None else self._item_weights.read(histories.items)
        values = self._item_values.read(histories.items)
        if unknown_rate:
            values = self.embeddings.with_unknown(self._item_feature, values, unknown_rate, seed)
        return self.embeddings.lookup(self._item_feature, values, weights)
