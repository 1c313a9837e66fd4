"""The popularity coordinate of the item vectors, in training and at serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.base.keras2 import tf
from trainer.data.item_column import ItemColumn
from trainer.data.item_table import ItemTable
from trainer.functional import popularity

COORDINATE = "log_popularity"
"""Beside the features of served items: their popularity coordinate."""


class PopularityCoordinate:
    """Appends tau log P to item vectors, so that <query, item> / tau = cos / tau + beta log P.

    The inner product stays one, so that every index serves it unchanged. The weight beta is learned
    by the query tower (`towers.popularity`: with logQ in training the sampled softmax then sees
    cos / tau + (beta - 1) log P, and preference is learnt apart from popularity), or set for serving
    alone (`prior.beta`).
    """

    def __init__(
        self, strength: float, pseudo_events: float, temperature: float, item_table: ItemTable
    ) -> None:
        """Reads the counts of the item table.

        Args:
          strength: factor on the coordinate at serving.
          pseudo_events: see `functional.popularity.current`.
          temperature: tau.
          item_table: with the counts.
        """
        examples, self._temperature = item_table.counts_examples, temperature
        self.train_on(examples)
        scale = temperature * strength
        self._served = {
            name: scale * popularity.current(examples, recent, pseudo_events)
            for name, recent in item_table.counts_recent.items()
        }
        self.unseen = float(self._served["now"][0])
        """Of an item without any event, now: the padding row has none."""

    def train_on(self, counts: NDArray[np.int64]) -> None:
        """Takes `[N + 1]` counts of the targets that batches are drawn from; before the first step.

        With other counts than those of the sampling probabilities, the towers would learn the
        difference of two distributions as preference.
        """
        self._trained = ItemColumn(self._temperature * popularity.trained(counts))

    def trained(self, rows: tf.Tensor) -> tf.Tensor:
        """`[B]` of training: the popularity among the examples that are drawn."""
        return self._trained.read(rows)

    def served(self, rows: ArrayLike, as_of: str) -> tf.Tensor:
        """`[m]` of serving: the popularity at an instant."""
        return tf.constant(self._served[as_of][np.asarray(rows)])

    @staticmethod
    def append(items: tf.Tensor, coordinate: tf.Tensor) -> tf.Tensor:
        """`[B, dim]` and `[B]` -> `[B, dim + 1]`."""
        return tf.concat([items, coordinate[:, None]], axis=1)
