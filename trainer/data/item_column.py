"""One value an item, where graphs read it by row."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from trainer.base.keras2 import tf
from trainer.base.variable_rows import read_rows


class ItemColumn:
    """`[N + 1, ...]` values in an untrained variable, made in the scope of the strategy at hand.

    A variable, since a tensor that a graph reads becomes a constant of it: of a SavedModel's graph,
    which may hold 2 GB, and with parameter servers of every step. No `Trackable`, so that neither
    layers nor modules that hold it put it into their checkpoints: it comes from the data.
    """

    def __init__(self, values: ArrayLike | tf.Tensor, name: str = "item_column") -> None:
        """Takes the values by row; row 0 is padding."""
        self.variable = tf.Variable(values, trainable=False, name=name)

    def read(self, rows: ArrayLike | tf.Tensor) -> tf.Tensor:
        """`[..., n]` of the given rows `[...]`, int32 or int64."""
        return read_rows(self.variable, rows)

    def numpy(self) -> NDArray[Any]:
        """All values; not where they lie on parameter servers."""
        values: NDArray[Any] = self.variable.numpy()
        return values
