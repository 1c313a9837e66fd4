"""The mean of the items of a history, by learned weights of recency."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.base.keras2 import tf
from trainer.config.history import HistoryConfig
from trainer.towers.history.histories import Histories
from trainer.towers.history.interface import HistoryEncoder
from trainer.towers.history.sequence import SequenceColumn
from trainer.towers.pooling import weighted_mean


class HistoryMean(HistoryEncoder):
    """A mean for each feature; the means stand side by side.

    The weight of an item depends on its age p, 0 for the newest: exp(w_p) / sum over the history
    of exp(w). The w start at 0, a plain mean.
    """

    def __init__(
        self, columns: Sequence[SequenceColumn], settings: HistoryConfig, seed: int
    ) -> None:
        del settings, seed  # no options, and no draw
        super().__init__(columns)
        self.place_weights = {
            column.name: self.add_weight(
                name=f"{column.name}_places", shape=[column.max_length], initializer="zeros"
            )
            for column in self.columns
        }

    @property
    def width(self) -> int:
        """The sum of the features' widths."""
        return sum(column.width for column in self.columns)

    def call(
        self, histories: Histories, unknown_rate: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """See `HistoryEncoder.call`."""
        return tf.concat(
            [self._mean(column, histories, unknown_rate, seed) for column in self.columns], axis=1
        )

    def _mean(
        self,
        column: SequenceColumn,
        histories: Histories,
        unknown_rate: float,
        seed: tf.Tensor | None,
    ) -> tf.Tensor:
        counts = histories.is_item * tf.cast(histories.age < column.max_length, tf.float32)
        ages = tf.minimum(histories.age, column.max_length - 1)
        of_age = tf.gather(tf.exp(self.place_weights[column.name]), ages)
        vectors = column.vectors(histories, unknown_rate, seed)
        return weighted_mean(vectors, histories.positions, counts * of_age)
