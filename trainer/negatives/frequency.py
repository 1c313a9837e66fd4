"""Keeps the estimate of how often items occur in the stream of batches (Yi et al., algorithms 2 and 3)."""

from __future__ import annotations

from numbers import Integral

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import tf
from trainer.base.limits import MAX_BUCKETS
from trainer.base.variable_rows import read_rows, write_rows
from trainer.functional import frequency


class FrequencyEstimator(tf.Module):
    """Learns each item's probability per batch from the steps between its occurrences.

    Needs no vocabulary and no counts: items are hashed, so new ones need no place, and a change of
    the distribution is followed. Memory is 12 bytes a bucket; an update costs O(batch).

    The two variables hold m * H values, hash after hash, because sparse reads and updates of
    variables (under `tf.distribute` too) go by the first axis:

    * `last_seen` (A): int64, step at which an item of the bucket occurred last; 0 before the first;
    * `interval` (B): float32, running mean of the batches between two occurrences.

    Known limits, as in the paper: an item that stops occurring keeps its last estimate, since only
    an occurrence updates; an unseen item has 1 / `initial_interval`. An item in nearly every batch
    is only known to be at least that frequent.

    Args:
      buckets: H, for each hash. Items that share a bucket are taken for one.
      hashes: m. With several, an item is spoilt only where it shares its bucket in each of them.
      learning_rate: a in (0, 1].
      initial_interval: B before the first occurrence, in batches, at least 1.

    Raises:
      LongtailError: an impossible value.
    """

    def __init__(
        self,
        buckets: int,
        hashes: int = 1,
        learning_rate: float = 0.01,
        initial_interval: float = 100.0,
    ) -> None:
        super().__init__(name="frequency_estimator")
        most = MAX_BUCKETS
        holds = _whole(buckets, most)
        _expect(
            holds, "buckets", f"a whole number from 1 to {most}", buckets, "some times the items"
        )
        holds = _whole(hashes, 64)
        _expect(holds, "hashes", "a whole number from 1 to 64", hashes, "1 to 4 are customary")
        holds = 0 < learning_rate <= 1
        _expect(holds, "learning_rate", "0 < a <= 1", learning_rate, "0.01 is customary")
        holds = 1 <= initial_interval < float("inf")
        remedy = "a batch is the shortest; take the interval of a rare item"
        _expect(holds, "initial_interval", "batches, finite and >= 1", initial_interval, remedy)
        self.buckets, self.hashes, self.learning_rate = buckets, hashes, learning_rate
        size = [hashes * buckets]
        self.last_seen = tf.Variable(
            lambda: tf.zeros(size, tf.int64), trainable=False, name="last_seen"
        )
        self.interval = tf.Variable(
            lambda: tf.fill(size, float(initial_interval)), trainable=False, name="interval"
        )

    def update(self, rows: tf.Tensor, step: tf.Tensor) -> None:
        """Takes in the items of one batch; before `log_probability` of the same batch.

        In a replica of several, the rows of all are gathered, so that the result is exactly that of
        one process with the whole batch. Then it must be called as the replica's function itself
        does, not from a `tf.function`, loop or condition inside it (`merge_call` refuses those).

        Args:
          rows: `[N]` integer item rows. Repeated ones, and items that share a bucket, update once.
          step: integer scalar, the number of the batch, counted from 1: at step 0 no steps have
            been waited and nothing is learnt. A tensor; a Python number makes a graph per number.

        Raises:
          tf.errors.InvalidArgumentError: the steps went backwards, which would freeze the estimate;
            a step counter that starts anew needs a new estimator.
        """
        rows, step = tf.cast(rows, tf.int64), tf.cast(step, tf.int64)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            rows = replica.all_gather(rows, axis=0)  # of replicas with batches of any size
        slots = tf.reshape(self._slots(rows), [-1])
        last_seen = read_rows(self.last_seen, slots)
        message = "expected steps that grow, received one before the last; restore both or neither"
        tf.debugging.assert_less_equal(last_seen, step, f"frequency: {message}")
        old = read_rows(self.interval, slots)
        interval = frequency.updated_interval(old, last_seen, step, self.learning_rate)
        # No tf.unique: a slot that occurs twice is given the same value twice, from the same old
        # ones. Both reads stand before both writes.
        write_rows(self.interval, interval, slots)
        seen = tf.fill(tf.shape(slots), step)
        write_rows(self.last_seen, seen, slots)

    def log_probability(
        self, rows: tf.Tensor, per_draw_of: int | tf.Tensor | None = None, exact: bool = False
    ) -> tf.Tensor:
        """Log probability of items: per batch, or per draw where a batch size is given.

        Args:
          rows: `[N]` integer item rows.
          per_draw_of: draws of a batch, of all replicas together. None: the probability per batch,
            that a batch holds the item at all.
          exact: per draw, inverts the probability per batch instead of dividing it by the draws.

        Returns:
          `[N]` float32 logs, finite and at most 0.
        """
        intervals = read_rows(self.interval, self._slots(rows))
        log_p = frequency.log_probability_per_batch(intervals)
        if per_draw_of is None:
            return log_p
        if exact:
            resolution = min(self.learning_rate, 0.5)
            return frequency.log_probability_per_draw_exact(log_p, per_draw_of, resolution)
        return frequency.log_probability_per_draw(log_p, per_draw_of)

    def _slots(self, rows: tf.Tensor) -> tf.Tensor:
        """`[N]` rows -> `[m, N]` places in the variables."""
        first = self.buckets * tf.range(self.hashes, dtype=tf.int64)[:, None]
        return first + frequency.buckets(rows, self.buckets, self.hashes)


def _whole(value: object, most: int) -> bool:
    return isinstance(value, Integral) and 1 <= int(value) <= most


def _expect(holds: bool, name: str, expected: str, received: object, remedy: str) -> None:
    if not holds:
        raise LongtailError(
            f"frequency estimation: {name}: expected {expected}, received {received}; {remedy}"
        )
