"""The one interface of every index: build from item vectors, search by query vectors."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf

PAD_SCORE = float(np.finfo(np.float32).min)
"""Score of a padded answer (row 0, id ""): the lowest finite float, because JSON has no -inf."""


class Index(tf.Module, metaclass=ABCMeta):
    """Items by inner product: ``build`` once, ``search`` eagerly or in a graph.

    Every state lies in variables of this module, so that a SavedModel of an owner is complete.
    """

    num_items: int
    dim: int
    is_exact = False
    """Whether it answers with the best items for certain; if not, an export measures its recall."""
    op_namespaces: tuple[str, ...] = ()
    """Of the ops that TensorFlow does not bring; a SavedModel must be told of them."""

    @property
    def figures(self) -> dict[str, Any]:
        """What an export says of it beside recall and latency."""
        return {}

    @property
    def remedy(self) -> str:
        """The settings that raise its recall, with their values."""
        return ""

    @abstractmethod
    def build(self, items: NDArray[Any]) -> None:
        """Take the item vectors float [N + 1, D] by row; row 0 is padding and never answered.

        Raises:
          LongtailError: not a matrix, no items, or a vector that is not finite.
        """

    @abstractmethod
    def search(self, queries: Any, k: Any) -> tuple[Any, Any]:
        """The best ``k`` items of each query, best first.

        Args:
          queries: float32 [B, D].
          k: number of items, an int or an int32 scalar; at least 1.

        Returns:
          Inner products float32 [B, k] and rows int64 [B, k]. Where an index has fewer items to
          give, row 0 with ``PAD_SCORE`` fills the end.
        """

    @abstractmethod
    def vectors(self, rows: Any) -> Any:
        """The item vectors [..., D] of int64 rows [...] in ``1..N``."""


def checked_items(items: NDArray[Any]) -> NDArray[Any]:
    """The vectors without the padding row, float32 [N, D].

    Raises:
      LongtailError: expected and received in the message.
    """
    items = np.asarray(items, np.float32)
    if items.ndim != 2 or items.shape[0] < 2:
        raise LongtailError(
            "an index expected item vectors [items + 1, dimensions] of at least one item, "
            f"received shape {items.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(items[1:]).all(axis=1))
    if len(bad):
        raise LongtailError(
            f"an index expected finite item vectors, received NaN or infinity for {len(bad)} of "
            f"{len(items) - 1} "
            f"items, the first of row {bad[0] + 1}: the training has diverged; lower "
            "train.learning_rate"
        )
    return np.ascontiguousarray(items[1:])


def padded(scores: Any, rows: Any, k: Any) -> tuple[Any, Any]:
    """Fill answers [B, m] with row 0 and ``PAD_SCORE`` up to [B, k]; ``m <= k``."""
    missing = tf.maximum(k - tf.shape(scores)[1], 0)
    room = [[0, 0], [0, missing]]
    return tf.pad(scores, room, constant_values=PAD_SCORE), tf.pad(rows, room)
