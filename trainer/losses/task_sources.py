"""The sources of negatives as a task uses them: what a step reads of them, and what it leaves behind.

Keras has AutoGraph convert what a layer calls, at a cost of seconds a trace. No Python branch here
depends on a tensor, so that nothing is left for it to convert.
"""

from __future__ import annotations

from typing import Any

from trainer.base import replicas
from trainer.base.keras2 import tf
from trainer.negatives.sources import Candidates, NegativeSources


class TaskSources(tf.Module):
    """Joins a batch with its sources; counts the training steps, unless the caller does.

    Args:
      negatives: the sources.
      seed: of what is drawn, where steps are counted here; None where the caller counts them.
    """

    def __init__(self, negatives: NegativeSources, seed: int | None) -> None:
        super().__init__(name="task_sources")
        self.negatives, self._seed = negatives, seed
        self._step: tf.Variable | None = None
        if seed is not None:
            self._step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step")

    def is_training(self, training: bool | None) -> bool:
        """`training`, which has to be said where a step leaves something behind.

        Raises:
          ValueError: it is None there.
        """
        if training is None and self.negatives.learns:
            raise ValueError(
                "training is missing: expected True or False, since a bank, a stream and uniform "
                "draws go on with training steps alone; hand on what compute_loss is given"
            )
        return bool(training)

    @tf.autograph.experimental.do_not_convert
    def ids(self, ids: tf.Tensor) -> tf.Tensor:
        """`[B] -> [B + K]`: those of the batch and K drawn uniformly, others in each step."""
        return self.negatives.rows(ids, self._seeds()[0])

    @tf.autograph.experimental.do_not_convert
    def join(
        self,
        given: Candidates,
        num_queries: tf.Tensor,
        training: bool,
        step: tf.Tensor | None,
        seed: tf.Tensor | None,
    ) -> Candidates:
        """The batch's candidates and those of the bank, with the probability of each.

        Args:
          given: what the caller embedded, with the ids in `rows`.
          num_queries: B.
          training: whether the stream counts the batch.
          step, seed: of a caller that counts and draws himself; None otherwise.

        Raises:
          ValueError: ids are missing or no integers; probabilities, or masks of candidates that the
            caller does not know, are given.
        """
        if given.log_q is not None:
            raise ValueError(
                "candidate_log_q: expected None, since the task knows the probabilities, received "
                "some; make the task without item_counts to bring them yourself"
            )
        if given.rows is None or not given.rows.dtype.is_integer:
            kind = None if given.rows is None else given.rows.dtype.name
            raise ValueError(
                f"candidate_ids: expected integers from 0 to N, received {kind}; number the items, "
                "by a StringLookup for one"
            )
        rows = tf.cast(given.rows, tf.int64)
        step = self._own_step() if step is None else step
        if training:
            self.negatives.observe(rows[:num_queries], step)
        seed = self._seeds()[1] if seed is None else seed
        drawn = self.negatives.candidates(given.items, rows, num_queries, step, seed)
        if given.is_negative is None:
            return drawn
        if drawn.is_negative is not None:
            raise ValueError("score_mask: expected None beside a bank or without in_batch")
        return drawn._replace(is_negative=given.is_negative)

    @tf.autograph.experimental.do_not_convert
    def learn(self, given: Candidates, num_queries: tf.Tensor) -> None:
        """Ends a training step: the batch enters the bank, and the next step is another one."""
        rows = tf.cast(given.rows, tf.int64)[:num_queries]
        self.negatives.remember(given.items[:num_queries], rows)
        if self._step is not None:
            replicas.own_copy(self._step).assign_add(1)

    def _own_step(self) -> tf.Tensor:
        if self._step is None:
            raise ValueError("step or seed is missing: sources that the caller made need both")
        return replicas.own_copy(self._step).read_value()

    def _seeds(self) -> Any:
        """Of this step: for uniform items, and for places of the bank."""
        at = tf.stack([tf.constant(self._seed or 0, tf.int64), self._own_step()])
        return tf.unstack(tf.random.experimental.stateless_split(at, 2))
