"""Where a step's candidates come from, and how probable each of them was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from trainer.base import replicas
from trainer.base.keras2 import tf
from trainer.data.item_column import ItemColumn
from trainer.functional.draws import uniform_rows
from trainer.functional.logq import log_probability_per_draw, mixture_log_q
from trainer.functional.similarity import balanced_share
from trainer.negatives.frequency import FrequencyEstimator
from trainer.negatives.memory_bank import MemoryBank

if TYPE_CHECKING:
    from trainer.negatives.momentum import MomentumTower


class Candidates(NamedTuple):
    """The columns of the scores: B items of the batch, K uniform ones, M of the bank.

    Attributes:
      items: `[B + K, D]` embeddings with gradients.
      remembered: `[M, D]` embeddings of the bank, constants; None without one.
      share: `[B + K]` factor of what each item learns as a negative, see
        `functional.similarity.balanced_share`; None for 1.
      rows: `[C]` int64 item rows.
      log_q: `[C]` log probability of one draw from the mixture of all sources.
      is_negative: `[C]` bool, False where a column is no negative of anybody: the batch where
        `negatives.in_batch` is off, the bank during its warm-up. None where all are.
    """

    items: tf.Tensor
    remembered: tf.Tensor | None
    share: tf.Tensor | None
    rows: tf.Tensor
    log_q: tf.Tensor
    is_negative: tf.Tensor | None


class NegativeSources(tf.Module):
    """In-batch, uniform and remembered candidates, with one mixture Q for the correction.

    Sources: mixed negatives, Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural
    Networks in Recommendations", WWW 2020; the bank, `memory_bank`.

    Its variables (frequencies, bank, momentum tower) are part of a checkpoint and of no export.
    """

    def __init__(
        self,
        num_items: int,
        *,
        counts: NDArray[Any] | None = None,
        frequency: FrequencyEstimator | None = None,
        batch_size: int | None = None,
        in_batch: bool = True,
        positive_is_no_draw: bool = False,
        uniform: int = 0,
        bank: MemoryBank | None = None,
        balanced: bool = True,
        momentum_tower: MomentumTower | None = None,
        gather: Callable[[tf.Tensor], Mapping[str, tf.Tensor]] | None = None,
    ) -> None:
        """Sets the sources up.

        Args:
          num_items: N, size of the catalogue; its rows are 1 to N.
          counts: `[N + 1]` how often each row is drawn into a batch: exact probabilities.
          frequency: estimates them from the stream instead. Without either, log Q is not asked for.
          batch_size: B, of all replicas; `frequency` needs it.
          in_batch: the items of the other examples of a batch are negatives.
          positive_is_no_draw: the loss sets the positive apart from the draws.
          uniform: K, further items of a step.
          bank: of the last batches. May be set later, before the first step.
          balanced: the batch learns for the bank, which cannot; see `balanced_share`.
          momentum_tower: embeds what the bank keeps.
          gather: features of rows, which the momentum tower reads.
        """
        super().__init__(name="negative_sources")
        self._in_batch, self.uniform, self._batch = in_batch, uniform, batch_size
        self._num_items = num_items
        # Where the positive stands apart from the draws, the batch offers one draw less.
        self._not_drawn = int(positive_is_no_draw and in_batch)
        self._exact_log_p: ItemColumn | None = None
        if counts is not None:
            self.draw_from(counts)
        self.frequency, self.bank = frequency, bank
        self._balanced = balanced and in_batch
        self.momentum_tower, self._gather = momentum_tower, gather

    @property
    def learns(self) -> bool:
        """Whether a training step leaves something behind, or draws what no other step does."""
        return bool(self.uniform or self.bank is not None or self.frequency is not None)

    def draw_from(self, counts: NDArray[Any]) -> None:
        """Takes `[N + 1]` counts of the targets that batches are drawn from; before the first step."""
        log_p = log_probability_per_draw(counts, counts.sum() or 1)
        self._exact_log_p = ItemColumn(log_p)

    def rows(self, batch_rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """`[B + K]`: the batch's rows and K drawn uniformly, to be embedded with gradients.

        In a replica of several its part of both, `[B / R + K / R]`.
        """
        if not self.uniform:
            return batch_rows
        drawn = replicas.own_part(uniform_rows(self._num_items, self.uniform, seed))
        return tf.concat([batch_rows, tf.cast(drawn, batch_rows.dtype)], axis=0)

    def candidates(
        self,
        items: tf.Tensor,
        rows: tf.Tensor,
        batch_size: tf.Tensor,
        step: tf.Tensor,
        seed: tf.Tensor,
    ) -> Candidates:
        """Joins the sources, of all replicas; the first columns are the replica's own batch.

        Args:
          items: `[B + K, D]` embeddings of `rows`.
          rows: `[B + K]`, see `rows`.
          batch_size: B; the three of this replica.
          step: number of the training step.
          seed: `[2]` integers, for what is drawn from the bank.
        """
        uniform, in_batch = self.uniform, self._in_batch
        if replicas.number() > 1:
            items, rows = (_of_all_replicas(values, batch_size) for values in (items, rows))
            batch_size *= replicas.number()
        log_p = self._log_p(rows)
        sampled = batch_size * int(in_batch)
        is_negative = remembered = share = None
        if not in_batch:
            columns = tf.range(tf.shape(rows, tf.int64)[0])
            is_negative = columns >= tf.cast(batch_size, tf.int64)
        if self.bank is not None:
            kept, ready = self.bank.read(seed), self.bank.is_ready(step)
            remembered = kept.items
            rows = tf.concat([rows, kept.rows], axis=0)
            log_p = tf.concat([log_p, kept.log_p], axis=0)
            fresh = tf.ones([batch_size + uniform], tf.bool) if in_batch else is_negative
            is_negative = tf.concat([fresh, tf.fill([self.bank.used], ready)], axis=0)
            used = self.bank.used * tf.cast(ready, tf.int32)
            if self._balanced:
                of_batch = tf.fill([batch_size], balanced_share(sampled, used))
                share = tf.concat([of_batch, tf.ones([uniform])], axis=0)
            sampled += used
        sampled -= self._not_drawn
        log_q = mixture_log_q(log_p, sampled=sampled, uniform=uniform, num_items=self._num_items)
        return Candidates(items, remembered, share, rows, log_q, is_negative)

    def observe(self, rows: tf.Tensor, step: tf.Tensor) -> None:
        """Counts the batch's rows `[B]` in the stream, before their probabilities are read."""
        if self.frequency is not None:
            self.frequency.update(rows, step + 1)

    def remember(self, items: tf.Tensor, rows: tf.Tensor) -> None:
        """Puts the batch into the bank, and lets the momentum tower follow; alike on all replicas.

        Args:
          items: `[B, D]` embeddings of the batch, or of the replica's part of it.
          rows: `[B]`.
        """
        if self.bank is None:
            return
        if self.momentum_tower is not None:
            assert self._gather is not None
            features = self._gather(rows)
            preference = self.momentum_tower.embed(features)
            items = tf.concat([preference, items[:, tf.shape(preference)[1] :]], axis=1)
        items, rows = replicas.in_order(tf.stop_gradient(items)), replicas.in_order(rows)
        if self.momentum_tower is not None and self._gather is not None:
            self.momentum_tower.follow(features if replicas.number() == 1 else self._gather(rows))
        self.bank.push(items, rows, self._log_p(rows))

    def _log_p(self, rows: tf.Tensor) -> tf.Tensor:
        """`[m]` log probability of one draw from the log; zeros where nobody asks for it."""
        if self.frequency is not None:
            return self.frequency.log_probability(rows, self._batch, exact=True)
        if self._exact_log_p is None:
            return tf.zeros(tf.shape(rows))
        return self._exact_log_p.read(rows)


def _of_all_replicas(values: tf.Tensor, batch_size: tf.Tensor) -> tf.Tensor:
    """`[B / R + K / R, ...]` of each replica -> `[B + K, ...]`, its own part of the batch first."""
    parts = tf.split(replicas.own_first(values), replicas.number(), axis=0)
    batch = [part[:batch_size] for part in parts]
    return tf.concat([*batch, *(part[batch_size:] for part in parts)], axis=0)
