"""What each user has in training, to take known positives out of the negatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.functional.mining import known_positive_mask


class KnownItems:
    """The items of U users as one list with offsets: 4 bytes a pair, 8 a user."""

    def __init__(self, data_dir: Path) -> None:
        """Reads `user_items.parquet`.

        Raises:
          LongtailError: there is none.
        """
        path = Path(data_dir) / "user_items.parquet"
        if not path.is_file():
            raise LongtailError(f"{path} is missing: run preprocess again")
        pairs = pq.read_table(path, columns=["user", "item"])
        users, items = (pairs[name].to_numpy() for name in ("user", "item"))
        order = np.argsort(users, kind="stable")
        splits = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
        self._items, self._splits = tf.constant(items[order], tf.int32), tf.constant(splits)

    def mask(self, user_rows: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """`[B, C]` bool: candidates `[C]` that the users `[B]` have, but for each row's positive."""
        # Its ragged operations have kernels for the CPU alone. All of it stays there, so that a GPU
        # is sent the mask and none of the lists, which hold int32 to be half as large.
        with tf.device("CPU:0"):
            return known_positive_mask(
                self._items,
                self._splits,
                tf.cast(user_rows, tf.int32),
                tf.cast(candidates, tf.int32),
            )
