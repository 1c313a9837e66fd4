"""The histories of a batch as the encoders read them."""

from __future__ import annotations

from typing import NamedTuple

from trainer.base.keras2 import tf


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
