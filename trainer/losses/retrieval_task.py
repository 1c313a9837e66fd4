"""The main task: tell a query's item from the negatives, by the loss that the configuration names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import keras, tf, tfrs
from trainer.config.loss import LossConfig, MemoryConfig
from trainer.losses import batch_parts
from trainer.losses.gramian import Pairs
from trainer.losses.registry import LOSSES
from trainer.losses.scored import Scored
from trainer.losses.task_sources import TaskSources
from trainer.negatives.build import bank_of, for_task, memory_of
from trainer.negatives.sources import Candidates, NegativeSources

_NEEDS = {
    "candidate_log_q": "one value per candidate [C], or a task that knows item_counts",
    "candidate_ids": "one id per candidate [C]",
    "groups": "one user per query [B]",
}


@keras.utils.register_keras_serializable(package="longtail")
class RetrievalTask(tfrs.tasks.Retrieval):
    """TFRS's `Retrieval` with its `call` written anew: more losses, corrections and negatives.

    Anew, because TFRS floors probabilities at 1e-6 (which flattens the tail of a large catalogue),
    masks accidental hits by adding a constant, sums the loss over the batch, and gives its metrics
    the ids of all candidates although only the first B belong to the queries.

    In a model of one's own, whose items have the ids 1 to N:

        self.task = RetrievalTask(temperature=0.1, item_counts=counts, uniform=64)
        ...
        ids = self.task.candidates(batch["item"])  # the batch's and 64 uniform ones
        loss = self.task(users, self.item_tower(ids), candidate_ids=ids, training=training)

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, equations 4 and 5; for the others see `trainer.functional`.

    Args:
      loss: what is computed; a mapping of its fields is taken as well (from `get_config`).
      item_counts: `[N + 1]` how often training draws each item, by id; place 0 counts what has no
        id. The sampling probabilities of the correction; or else `probabilities='streamed'`.
      num_items: N, where there are no `item_counts`: of uniform draws, and for `log_z`.
      batch_size: examples of a batch; `memory` and streamed probabilities need it.
      uniform: K, items drawn uniformly a step as further negatives, see `candidates`.
      memory: bank of past batches as further negatives; a mapping of the fields of
        `negatives.memory` (`size`, `warm_up_steps`, ...).
      seed: of what is drawn.
      hardest: only the n negatives of the highest corrected score count; all without it.
      negatives: sources that the caller made, in place of the five arguments about them; not part
        of `get_config`.
      metrics: full-corpus metrics, as in TFRS. Not part of `get_config`, nor are the next two: they
        belong to the model that sets them, with its corpus of candidates.
      batch_metrics: in-batch metrics, as in TFRS.
      loss_metrics: metrics of the loss, as in TFRS.
      name: of the layer.
      **settings: the fields of `loss` by name, in its place: `temperature`, `log_q`, ...

    Raises:
      LongtailError: arguments that do not fit each other; the message says which.
      ValueError: a field of the loss is unknown or impossible (pydantic's).
    """

    def __init__(
        self,
        loss: LossConfig | Mapping[str, Any] | None = None,
        *,
        item_counts: ArrayLike | None = None,
        num_items: int | None = None,
        batch_size: int | None = None,
        uniform: int = 0,
        memory: MemoryConfig | Mapping[str, Any] | None = None,
        seed: int = 0,
        hardest: int | None = None,
        negatives: NegativeSources | None = None,
        metrics: Sequence[tfrs.metrics.Factorized] | tfrs.metrics.Factorized | None = None,
        batch_metrics: Sequence[keras.metrics.Metric] | None = None,
        loss_metrics: Sequence[keras.metrics.Metric] | None = None,
        name: str | None = None,
        **settings: Any,
    ) -> None:
        if loss is not None and settings:
            raise LongtailError(f"loss: expected None beside its fields {sorted(settings)}")
        of_loss = loss if isinstance(loss, LossConfig) else LossConfig(**(loss or settings))
        known = LOSSES[of_loss.kind]
        if hardest and of_loss.log_q not in known.hardest:
            raise LongtailError(
                f"hardest: expected None with loss kind '{of_loss.kind}' and log_q "
                f"'{of_loss.log_q}', received {hardest}"
            )
        super().__init__(
            metrics=metrics,
            batch_metrics=list(batch_metrics or ()),
            loss_metrics=list(loss_metrics or ()),
            temperature=of_loss.temperature,
            remove_accidental_hits=of_loss.remove_accidental_hits,
            name=name,
        )
        self._settings, self._hardest, self._seed = of_loss, hardest, seed
        self._loss = known
        self._function = tf.autograph.experimental.do_not_convert(known.function)
        self._item_counts, self._num_items, self._batch_size = item_counts, num_items, batch_size
        self._uniform, self._memory = uniform, memory_of(memory)
        made = for_task(
            of_loss,
            item_counts=item_counts,
            num_items=num_items,
            batch_size=batch_size,
            uniform=uniform,
            memory=self._memory,
        )
        if negatives is not None and made is not None:
            raise LongtailError(
                "negatives: expected None beside arguments that say how to make some"
            )
        self._sources: TaskSources | None = None
        if made is not None:
            self._sources = TaskSources(made, seed)
        elif negatives is not None:
            self._sources = TaskSources(negatives, None)
        self.log_z: tf.Variable | None = None
        """Normaliser of noise-contrastive estimation, learned; None with any other loss."""
        if of_loss.log_q in known.learns_log_z:
            size = num_items or (1 if item_counts is None else np.size(item_counts) - 1)
            at_equal_scores = keras.initializers.Constant(math.log(size))
            self.log_z = self.add_weight(name="log_z", shape=[], initializer=at_equal_scores)

    def build(self, input_shape: Any) -> None:
        """Makes the bank, once the width of the embeddings is known."""
        if self._memory is not None and self._sources is not None:
            self._sources.negatives.bank = bank_of(self._memory, int(input_shape[-1]))
        super().build(input_shape)

    def candidates(self, ids: tf.Tensor) -> tf.Tensor:
        """`[B] -> [B + K]`: the ids of a batch's items and of K uniform ones, to be embedded together.

        The uniform ones are drawn anew with each training step.
        """
        return ids if self._sources is None else self._sources.ids(ids)

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        *,
        candidate_ids: tf.Tensor | None = None,
        candidate_log_q: tf.Tensor | None = None,
        groups: tf.Tensor | None = None,
        refused_embeddings: tf.Tensor | None = None,
        refused_mask: tf.Tensor | None = None,
        compute_metrics: bool = True,
        compute_batch_metrics: bool = True,
        score_mask: tf.Tensor | None = None,
        known_mask: tf.Tensor | Callable[[tf.Tensor], tf.Tensor | None] | None = None,
        training: bool | None = None,
        step: tf.Tensor | None = None,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss of a batch: scores, masks, correction, hardest negatives, loss.

        Args:
          query_embeddings: `[B, D]`.
          candidate_embeddings: `[C, D]`, C >= B. Row i < B is the positive of query i, all other
            rows are its negatives; rows from B on are negatives of every query. A bank adds M.
          sample_weight: `[B]` rewards; 1 without it.
          candidate_ids: `[C]` item ids of the candidates: integers, where the task has sources of
            negatives.
          candidate_log_q: `[C]` natural log of the probability that one draw gives each candidate;
            only where the task has no sources, which know it. No correction for the temperature is
            due: it is subtracted after that.
          groups: `[B]` user of each query; the bilateral softmax needs it.
          refused_embeddings: `[B, R, D]` items that each user refused: negatives of that row, each
            there for certain and not drawn.
          refused_mask: `[B, R]` bool, True where `refused_embeddings` holds an item.
          compute_metrics: update the full-corpus metrics too, if there are any (slow).
          compute_batch_metrics: update the in-batch metrics, if there are any.
          score_mask: `[B, C]` or `[C]` bool, False where a candidate is not to be considered (TFRS's
            meaning), as if it had not been drawn. A row's positive is always considered. The
            gramian loss, which has no scores of single pairs, takes `[C]` alone. Not beside a bank.
          known_mask: `[B, C + M]` bool, True where a candidate was drawn and is no negative of the
            row, whose user is known to want it; never at a row's positive. Or a function that gives
            it for the ids `[C + M]`. Not for the gramian loss.
          training: whether bank, stream and step learn of the batch; needed where there are any.
          step, seed: of a caller that counts and draws himself: scalar and `[2]` integers.

        Returns:
          Scalar loss, a mean over the batch; in a replica of several, over its part of it.

        Raises:
          ValueError: an argument is needed and missing, or shapes or values do not fit (see
            `trainer.functional`).
        """
        settings, sources = self._settings, self._sources
        num_queries = tf.shape(query_embeddings)[0]
        given = Candidates(
            candidate_embeddings, None, None, candidate_ids, candidate_log_q, score_mask
        )
        drawn = given
        if sources is not None:
            training = sources.is_training(training)
            drawn = sources.join(given, num_queries, training, step, seed)
        self._require(settings.log_q != "none", "candidate_log_q", drawn.log_q)
        known = known_mask(drawn.rows) if callable(known_mask) else known_mask
        log_q = drawn.log_q if settings.log_q != "none" else None
        scores: tf.Tensor | None = None
        if not self._loss.by_row:
            if known is not None:
                raise ValueError(
                    f"known_mask: expected None for loss kind '{settings.kind}', received one"
                )
            pairs = Pairs(
                query_embeddings, drawn.items, log_q, sample_weight, drawn.is_negative,
                drawn.remembered, drawn.share,
            )  # fmt: skip
            loss = self._function(pairs, settings)
        else:
            self._require(settings.remove_accidental_hits, "candidate_ids", drawn.rows)
            self._require(self._loss.needs_groups, "groups", groups)
            scores, columns, draws = batch_parts.scored(query_embeddings, drawn, known, settings)
            scored = Scored(
                scores,
                log_q,
                columns,
                draws,
                batch_parts.refused(query_embeddings, refused_embeddings, refused_mask, settings),
                sample_weight,
                groups,
                self.log_z,
            )
            loss = self._function(scored, settings, self._hardest)
            scores = scored.with_refused()
        if sources is not None and training:
            sources.learn(given, num_queries)
        positive_ids = None if candidate_ids is None else candidate_ids[:num_queries]
        self._update_metrics(
            query_embeddings, drawn.items, positive_ids, sample_weight, loss, scores,
            compute_metrics, compute_batch_metrics,
        )  # fmt: skip
        return loss

    def _update_metrics(
        self,
        queries: tf.Tensor,
        candidates: tf.Tensor,
        positive_ids: tf.Tensor | None,
        weights: tf.Tensor | None,
        loss: tf.Tensor,
        scores: tf.Tensor | None,
        with_metrics: bool,
        with_batch_metrics: bool,
    ) -> None:
        """Updates TFRS's metrics, where the task has any."""
        num_queries = tf.shape(queries)[0]
        for metric in self._loss_metrics:
            metric.update_state(loss)
        if with_metrics:
            for metric in self._factorized_metrics:
                metric.update_state(queries, candidates[:num_queries], positive_ids, weights)
        if with_batch_metrics and self._batch_metrics and scores is not None:
            labels = tf.one_hot(tf.range(num_queries), tf.shape(scores)[1])
            for metric in self._batch_metrics:
                metric.update_state(labels, scores, sample_weight=weights)

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the task; see the class for what is left out."""
        counts, memory = self._item_counts, self._memory
        return {
            "name": self.name,
            "loss": self._settings.model_dump(mode="json"),
            "item_counts": None if counts is None else np.asarray(counts).tolist(),
            "num_items": self._num_items,
            "batch_size": self._batch_size,
            "uniform": self._uniform,
            "memory": None if memory is None else memory.model_dump(mode="json"),
            "seed": self._seed,
            "hardest": self._hardest,
        }

    def _require(self, needed: bool, argument: str, received: Any) -> None:
        if needed and received is None:
            raise ValueError(
                f"{argument} is missing: {_NEEDS[argument]}, for loss kind "
                f"'{self._settings.kind}', log_q '{self._settings.log_q}', remove_accidental_hits "
                f"{self._settings.remove_accidental_hits}"
            )
