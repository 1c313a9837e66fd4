"""The popularity coordinate of the item vectors, in training and at serving."""

from __future__ import annotations

from trainer.config import PopularityConfig
from trainer.functional import popularity
from trainer.item_table import ItemTable
from trainer.keras_gate import tf


class Popularity:
    """Appends tau log P to item vectors, so that <query, item> / tau = cos / tau + beta(query) log P.

    The inner product stays one, so that every index serves it unchanged. With logQ in training the sampled softmax
    sees cos / tau + (beta - 1) log P: taste is learnt apart from popularity.
    """

    def __init__(self, config: PopularityConfig, temperature: float, item_table: ItemTable) -> None:
        """Reads the counts of the item table."""
        examples = item_table.counts_examples
        now = popularity.current(examples, item_table.counts_recent, config.pseudo_events)
        self._trained = tf.constant(temperature * popularity.trained(examples))
        self._served = tf.constant(temperature * config.strength * now)

    def trained(self, rows: tf.Tensor) -> tf.Tensor:
        """`[B]` of training: the popularity among the examples that are drawn."""
        return tf.gather(self._trained, rows)

    def served(self, rows: tf.Tensor | None, count: tf.Tensor) -> tf.Tensor:
        """`[count]` of serving: the popularity now; items without a row have that of the least popular."""
        if rows is None:
            return tf.fill([count], tf.reduce_min(self._served))
        return tf.gather(self._served, rows)

    @staticmethod
    def append(items: tf.Tensor, coordinate: tf.Tensor) -> tf.Tensor:
        """`[B, dim]` and `[B]` -> `[B, dim + 1]`."""
        return tf.concat([items, coordinate[:, None]], axis=1)
