"""The popularity coordinate of the item vectors, in training and at serving."""

from __future__ import annotations

from trainer.config import PopularityConfig
from trainer.functional import popularity
from trainer.item_table import ItemTable
from trainer.keras_gate import tf

COORDINATE = "log_popularity"
"""Beside the features of served items: their popularity coordinate."""


class Popularity:
    """Appends tau log P to item vectors, so that <query, item> / tau = cos / tau + beta(query) log P.

    The inner product stays one, so that every index serves it unchanged. With logQ in training the sampled softmax
    sees cos / tau + (beta - 1) log P: taste is learnt apart from popularity.
    """

    def __init__(self, config: PopularityConfig, temperature: float, item_table: ItemTable) -> None:
        """Reads the counts of the item table."""
        examples = item_table.counts_examples
        self._trained = tf.constant(temperature * popularity.trained(examples))
        scale = temperature * config.strength
        self._served = {
            name: scale * popularity.current(examples, recent, config.pseudo_events)
            for name, recent in item_table.counts_recent.items()
        }
        self.least = float(self._served["now"].min())

    def trained(self, rows: tf.Tensor) -> tf.Tensor:
        """`[B]` of training: the popularity among the examples that are drawn."""
        return tf.gather(self._trained, rows)

    def served(self, rows: tf.Tensor, as_of: str) -> tf.Tensor:
        """`[m]` of serving: the popularity at an instant."""
        return tf.gather(self._served[as_of], rows)

    @staticmethod
    def append(items: tf.Tensor, coordinate: tf.Tensor) -> tf.Tensor:
        """`[B, dim]` and `[B]` -> `[B, dim + 1]`."""
        return tf.concat([items, coordinate[:, None]], axis=1)
