"""What every encoder of histories is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from trainer.base.keras2 import keras, tf
from trainer.towers.history.histories import Histories
from trainer.towers.history.sequence import SequenceColumn


class HistoryEncoder(keras.layers.Layer):
    """Histories -> `[B, width]`, part of what the query tower projects.

    Padding may stand anywhere; of a longer history the newest items count; an empty one gives what
    one item of index 0 would give.
    """

    def __init__(self, columns: Sequence[SequenceColumn]) -> None:
        super().__init__(name="history")
        self.columns = tuple(columns)
        # Keras looks for layers here, and not in columns: gradients flow to the tables that are shared.
        self._shared = list({id(c.embeddings): c.embeddings for c in columns}.values())

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of the output."""

    @property
    def item_variables(self) -> list[tf.Variable]:
        """What is read of the item table; the data hold it, so that no checkpoint does."""
        return [variable for column in self.columns for variable in column.item_variables]

    @abstractmethod
    def call(
        self, histories: Histories, unknown_rate: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encodes histories.

        Args:
          histories: of a batch.
          unknown_rate: share of the distinct items that are read as items of unknown keys.
          seed: `[2]` integers, wanted where the rate is not 0.

        Returns:
          `[B, width]`.
        """
