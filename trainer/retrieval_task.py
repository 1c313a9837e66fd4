"""The main task: tell a query's item from the other items of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preprocessing.errors import LongtailError
from trainer.functional import logq, losses, masks, similarity
from trainer.keras_gate import keras, tf, tfrs


@keras.utils.register_keras_serializable(package="longtail")
class RetrievalTask(tfrs.tasks.Retrieval):
    """Sampled softmax with logQ correction: TFRS's `Retrieval` with its `call` written anew.

    Anew, because TFRS floors probabilities at 1e-6 (which flattens the tail of a large catalogue),
    masks accidental hits by adding a constant, sums the loss over the batch, and gives its metrics
    the ids of all candidates although only the first B belong to the queries.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, equations 4 and 5.

    Args:
      temperature: tau > 0, by which inner products are divided.
      remove_accidental_hits: take the row's positive item out of its negatives; `call` then
        needs `candidate_ids`.
      log_q: correct for sampling; `call` then needs `candidate_log_q`. Without it a given
        `candidate_log_q` is ignored, so that a model can always pass it.
      metrics: full-corpus metrics, as in TFRS. Not part of `get_config`, nor are the next two: they
        belong to the model that sets them, with its corpus of candidates.
      batch_metrics: in-batch metrics, as in TFRS.
      loss_metrics: metrics of the loss, as in TFRS.
      name: of the layer.

    Raises:
      LongtailError: the temperature is not above 0.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.05,
        remove_accidental_hits: bool = True,
        log_q: bool = True,
        metrics: Sequence[tfrs.metrics.Factorized] | tfrs.metrics.Factorized | None = None,
        batch_metrics: Sequence[keras.metrics.Metric] | None = None,
        loss_metrics: Sequence[keras.metrics.Metric] | None = None,
        name: str | None = None,
    ) -> None:
        if not temperature > 0:
            raise LongtailError(f"temperature: expected a number above 0, received {temperature}")
        super().__init__(
            metrics=metrics,
            batch_metrics=list(batch_metrics or ()),
            loss_metrics=list(loss_metrics or ()),
            temperature=float(temperature),
            remove_accidental_hits=remove_accidental_hits,
            name=name,
        )
        self._log_q = log_q

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        *,
        sample_weight: tf.Tensor | None = None,
        candidate_log_q: tf.Tensor | None = None,
        candidate_ids: tf.Tensor | None = None,
        compute_metrics: bool = False,
        compute_batch_metrics: bool = True,
        score_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss of a batch: scores, logQ, accidental hits, softmax, rewards.

        Args:
          query_embeddings: `[B, D]`.
          candidate_embeddings: `[C, D]`, C >= B. Row i < B is the positive of query i, all other
            rows are its negatives; rows from B on are negatives of every query.
          sample_weight: `[B]` rewards; 1 without it.
          candidate_log_q: `[C]` natural log of the sampling probability of each candidate (all per
            draw, or all per batch). No correction for the temperature is due: it is subtracted
            after that.
          candidate_ids: `[C]` item ids of the candidates.
          compute_metrics: update the full-corpus metrics too (slow).
          compute_batch_metrics: update the in-batch metrics, if there are any.
          score_mask: `[B, C]` bool, False where a candidate is not to be considered (TFRS's
            meaning); must be True for each row's positive.

        Returns:
          Scalar loss, a mean over the batch.

        Raises:
          ValueError: `candidate_log_q` or `candidate_ids` is needed and missing, or shapes or
            values do not fit (see `trainer.functional`).
        """
        self._require(self._log_q, "candidate_log_q", candidate_log_q, "log_q")
        self._require(
            self._remove_accidental_hits, "candidate_ids", candidate_ids, "remove_accidental_hits"
        )
        num_queries = tf.shape(query_embeddings)[0]
        positive_ids = None if candidate_ids is None else candidate_ids[:num_queries]

        scores = similarity.scores(query_embeddings, candidate_embeddings, self._temperature)
        if self._log_q:
            scores = logq.correct(scores, candidate_log_q)
        if self._remove_accidental_hits:
            repeated = masks.accidental_hits(positive_ids, candidate_ids)
            scores = masks.apply_mask(scores, repeated)
        if score_mask is not None:
            scores = masks.apply_mask(scores, tf.logical_not(score_mask))
        loss = losses.sampled_softmax(scores, weights=sample_weight)

        for metric in self._loss_metrics:
            metric.update_state(loss)
        if compute_metrics:
            positives = candidate_embeddings[:num_queries]
            for metric in self._factorized_metrics:
                metric.update_state(query_embeddings, positives, positive_ids, sample_weight)
        if compute_batch_metrics and self._batch_metrics:
            labels = tf.one_hot(tf.range(num_queries), tf.shape(scores)[1])
            for metric in self._batch_metrics:
                metric.update_state(labels, scores, sample_weight=sample_weight)
        return loss

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the task; see the class for what is left out."""
        return {
            "name": self.name,
            "temperature": self._temperature,
            "remove_accidental_hits": self._remove_accidental_hits,
            "log_q": self._log_q,
        }

    @staticmethod
    def _require(needed: bool, argument: str, received: Any, option: str) -> None:
        if needed and received is None:
            raise ValueError(
                f"{argument}: expected one value per candidate [C] because the task was made with "
                f"{option}=True, received None; pass {argument} or set {option}=False"
            )
