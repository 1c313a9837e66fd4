"""The cross-batch memory: item embeddings of the last batches as further negatives."""

from __future__ import annotations

from typing import NamedTuple

from trainer.base.keras2 import tf
from trainer.base.variable_rows import read_rows, write_rows


class Remembered(NamedTuple):
    """Content of the bank; places that were never written hold row 0.

    Attributes:
      items: `[M', D]` embeddings, constants for the gradient.
      rows: `[M']` int64 item rows.
      log_p: `[M']` log probability of one draw that each was sampled with.
    """

    items: tf.Tensor
    rows: tf.Tensor
    log_p: tf.Tensor


class MemoryBank(tf.Module):
    """First in, first out; part of the checkpoint.

    Source: Wang et al., "Cross-Batch Negative Sampling for Training Two-Tower Recommenders", SIGIR
    2021. Embeddings of a batch are stale by the few steps that they stay, which is little once the
    towers have settled: hence a warm-up.
    """

    def __init__(self, size: int, dim: int, warm_up_steps: int, drawn: int | None = None) -> None:
        """Sets an empty bank up.

        Args:
          size: M, places.
          dim: D, width of the embeddings.
          warm_up_steps: steps during which it fills and is not used.
          drawn: places that a step reads; all without it.
        """
        super().__init__(name="memory_bank")
        self._size, self._warm_up_steps, self._drawn = size, warm_up_steps, drawn
        self._items = tf.Variable(tf.zeros([size, dim]), trainable=False, name="items")
        self._rows = tf.Variable(tf.zeros([size], tf.int64), trainable=False, name="rows")
        self._log_p = tf.Variable(tf.zeros([size]), trainable=False, name="log_p")
        self._next = tf.Variable(0, trainable=False, dtype=tf.int64, name="next")

    @property
    def used(self) -> int:
        """M' of `read`."""
        return self._drawn or self._size

    def read(self, seed: tf.Tensor) -> Remembered:
        """The content, before this step's batch is pushed: all of it, or M' places at random.

        Args:
          seed: `[2]` integers; the same seed draws the same places.
        """
        if self._drawn is None:
            return Remembered(
                self._items.read_value(), self._rows.read_value(), self._log_p.read_value()
            )
        at = tf.random.stateless_uniform([self._drawn], seed, maxval=self._size, dtype=tf.int64)
        return Remembered(*(read_rows(v, at) for v in (self._items, self._rows, self._log_p)))

    def is_ready(self, step: tf.Tensor) -> tf.Tensor:
        """Whether the warm-up is over at a step: scalar bool."""
        return step >= self._warm_up_steps

    def push(self, items: tf.Tensor, rows: tf.Tensor, log_p: tf.Tensor) -> None:
        """Replaces the oldest places by a batch; of one larger than the bank the last items stay.

        Args:
          items: `[B, D]`.
          rows: `[B]` int64.
          log_p: `[B]`.
        """
        items, rows, log_p = items[-self._size :], rows[-self._size :], log_p[-self._size :]
        pushed = tf.shape(rows, tf.int64)[0]
        at = (self._next + tf.range(pushed)) % self._size
        write_rows(self._items, tf.stop_gradient(items), at)
        write_rows(self._rows, rows, at)
        write_rows(self._log_p, log_p, at)
        self._next.assign((self._next + pushed) % self._size)
