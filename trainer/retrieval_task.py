"""The main task: tell a query's item from the negatives, by the loss that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preprocessing.errors import LongtailError
from trainer import replicas
from trainer.functional import logq, losses, masks, mining, pair_losses, similarity
from trainer.functional.corrected_softmax import corrected_softmax
from trainer.keras_gate import keras, tf, tfrs
from trainer.loss_config import LossConfig

_NEEDS = {
    "candidate_log_q": "one value per candidate [C]",
    "candidate_ids": "one id per candidate [C]",
    "groups": "one user per query [B]",
}


@keras.utils.register_keras_serializable(package="longtail")
class RetrievalTask(tfrs.tasks.Retrieval):
    """TFRS's `Retrieval` with its `call` written anew: more losses, corrections and negatives.

    Anew, because TFRS floors probabilities at 1e-6 (which flattens the tail of a large catalogue),
    masks accidental hits by adding a constant, sums the loss over the batch, and gives its metrics
    the ids of all candidates although only the first B belong to the queries.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, equations 4 and 5; for the others see `trainer.functional`.

    Args:
      loss: what is computed; a mapping of its fields is taken as well (from `get_config`).
      hardest: only the n negatives of the highest corrected score count; all without it.
      metrics: full-corpus metrics, as in TFRS. Not part of `get_config`, nor are the next two: they
        belong to the model that sets them, with its corpus of candidates.
      batch_metrics: in-batch metrics, as in TFRS.
      loss_metrics: metrics of the loss, as in TFRS.
      name: of the layer.

    Raises:
      LongtailError: `hardest` meets corrected logQ, which estimates the mass of all other items
        from the negatives.
    """

    def __init__(
        self,
        loss: LossConfig | dict[str, Any] | None = None,
        *,
        hardest: int | None = None,
        metrics: Sequence[tfrs.metrics.Factorized] | tfrs.metrics.Factorized | None = None,
        batch_metrics: Sequence[keras.metrics.Metric] | None = None,
        loss_metrics: Sequence[keras.metrics.Metric] | None = None,
        name: str | None = None,
    ) -> None:
        settings = loss if isinstance(loss, LossConfig) else LossConfig(**(loss or {}))
        if settings.log_q == "corrected" and hardest:
            raise LongtailError(
                f"hardest: expected None with log_q 'corrected', received {hardest}"
            )
        super().__init__(
            metrics=metrics,
            batch_metrics=list(batch_metrics or ()),
            loss_metrics=list(loss_metrics or ()),
            temperature=settings.temperature,
            remove_accidental_hits=settings.remove_accidental_hits,
            name=name,
        )
        self._settings, self._hardest = settings, hardest

    def call(
        self,
        query_embeddings: tf.Tensor,
        candidate_embeddings: tf.Tensor,
        *,
        sample_weight: tf.Tensor | None = None,
        candidate_log_q: tf.Tensor | None = None,
        candidate_ids: tf.Tensor | None = None,
        groups: tf.Tensor | None = None,
        refused_embeddings: tf.Tensor | None = None,
        refused_mask: tf.Tensor | None = None,
        compute_metrics: bool = False,
        compute_batch_metrics: bool = True,
        score_mask: tf.Tensor | None = None,
        remembered_embeddings: tf.Tensor | None = None,
        negatives_share: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss of a batch: scores, masks, correction, hardest negatives, loss.

        Args:
          query_embeddings: `[B, D]`.
          candidate_embeddings: `[C - M, D]`, C - M >= B. Row i < B is the positive of query i, all
            other rows are its negatives; rows from B on are negatives of every query.
          sample_weight: `[B]` rewards; 1 without it.
          candidate_log_q: `[C]` natural log of the probability that one draw gives each candidate.
            No correction for the temperature is due: it is subtracted after that.
          candidate_ids: `[C]` item ids of the candidates.
          groups: `[B]` user of each query; the bilateral softmax needs it.
          refused_embeddings: `[B, R, D]` items that each user refused: negatives of that row, each
            there for certain and not drawn.
          refused_mask: `[B, R]` bool, True where `refused_embeddings` holds an item.
          compute_metrics: update the full-corpus metrics too (slow).
          compute_batch_metrics: update the in-batch metrics, if there are any.
          score_mask: `[B, C]` or `[C]` bool, False where a candidate is not to be considered (TFRS's
            meaning). A row's positive is always considered. The gramian loss, which has no scores
            of single pairs, takes `[C]` alone.
          remembered_embeddings: `[M, D]` the last M of the C candidates, which learn nothing.
          negatives_share: `[C - M]` factor of what each candidate learns as a negative, see
            `similarity.balanced_share`.

        Returns:
          Scalar loss, a mean over the batch.

        Raises:
          ValueError: an argument is needed and missing, or shapes or values do not fit (see
            `trainer.functional`).
        """
        settings = self._settings
        self._require(settings.log_q != "none", "candidate_log_q", candidate_log_q)
        num_queries = tf.shape(query_embeddings)[0]
        positive_ids = None if candidate_ids is None else candidate_ids[:num_queries]
        scores: tf.Tensor | None = None
        if settings.kind == "gramian":
            loss = self._gramian(
                query_embeddings, candidate_embeddings, candidate_log_q, sample_weight, score_mask,
                remembered_embeddings, negatives_share,
            )  # fmt: skip
        else:
            scores = similarity.scores(
                query_embeddings, candidate_embeddings, settings.temperature,
                constants=remembered_embeddings, negatives_share=negatives_share,
            )  # fmt: skip
            scores = self._masked(scores, candidate_ids, score_mask)
            log_q = candidate_log_q if settings.log_q != "none" else None
            if refused_embeddings is not None:
                scores, log_q = self._with_refused(
                    scores, log_q, query_embeddings, refused_embeddings, refused_mask
                )
            loss = self._reduced(scores, log_q, sample_weight, groups)
        self._update_metrics(
            query_embeddings, candidate_embeddings, positive_ids, sample_weight, loss, scores,
            compute_metrics, compute_batch_metrics,
        )  # fmt: skip
        return loss

    def _gramian(
        self,
        queries: tf.Tensor,
        candidates: tf.Tensor,
        log_q: tf.Tensor | None,
        weights: tf.Tensor | None,
        considered: tf.Tensor | None,
        remembered: tf.Tensor | None,
        share: tf.Tensor | None,
    ) -> tf.Tensor:
        """The gramian loss over the candidates that are considered."""
        settings = self._settings
        scaled = queries / settings.temperature
        positives = tf.reduce_sum(scaled * candidates[: tf.shape(queries)[0]], axis=1)
        log_q = None if settings.log_q == "none" else log_q
        if share is not None:
            candidates = similarity.learning_by(candidates, share)
        if remembered is not None:
            candidates = tf.concat([candidates, tf.stop_gradient(remembered)], axis=0)
        if considered is not None:
            if considered.shape.rank != 1:
                raise ValueError(
                    "score_mask: expected one value per candidate [C] for loss kind 'gramian', "
                    f"received shape {considered.shape}"
                )
            candidates = tf.boolean_mask(candidates, considered)
            log_q = None if log_q is None else tf.boolean_mask(log_q, considered)
        return pair_losses.gramian(
            scaled,
            candidates,
            positives,
            log_q,
            weight=settings.gramian_weight,
            sample_weights=weights,
        )

    def _masked(
        self, scores: tf.Tensor, ids: tf.Tensor | None, considered: tf.Tensor | None
    ) -> tf.Tensor:
        """`[B, C]` scores, masked where a candidate is no negative of a row."""
        masked = None
        if self._settings.remove_accidental_hits:
            self._require(True, "candidate_ids", ids)
            assert ids is not None
            masked = masks.accidental_hits(ids[: tf.shape(scores)[0]], ids)
        if considered is not None:
            left_out = masks.but_positives(tf.logical_not(considered), tf.shape(scores))
            masked = left_out if masked is None else masked | left_out
        return scores if masked is None else masks.apply_mask(scores, masked)

    def _with_refused(
        self,
        scores: tf.Tensor,
        log_q: tf.Tensor | None,
        queries: tf.Tensor,
        refused: tf.Tensor,
        is_refused: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Further columns `[B, C + R]`: expected once in the C draws, so log Q = -log C."""
        own = tf.einsum("bd,brd->br", queries / self._settings.temperature, refused)
        drawn, width = tf.shape(scores)[1], tf.shape(refused)[1]
        scores = tf.concat([scores, masks.apply_mask(own, tf.logical_not(is_refused))], axis=1)
        if log_q is not None:
            certain = tf.fill([width], -tf.math.log(tf.cast(drawn, log_q.dtype)))
            log_q = tf.concat([log_q, certain], axis=0)
        return scores, log_q

    def _reduced(
        self,
        scores: tf.Tensor,
        log_q: tf.Tensor | None,
        weights: tf.Tensor | None,
        groups: tf.Tensor | None,
    ) -> tf.Tensor:
        settings = self._settings
        if settings.log_q == "corrected":
            return corrected_softmax(scores, log_q, weights)
        if log_q is not None:
            scores = logq.correct(scores, log_q)
        if self._hardest:
            scores = mining.keep_hardest(scores, self._hardest)
        if settings.kind == "bsl":
            self._require(True, "groups", groups)
            return pair_losses.bilateral_softmax(
                scores,
                groups,
                positive_temperature=settings.bsl_ratio,
                weights=weights,
                gather=replicas.own_first,
            )
        if settings.kind == "bce":
            return pair_losses.binary_cross_entropy(
                scores, weights, negatives_weight=settings.bce_weight
            )
        return losses.sampled_softmax(scores, weights=weights)

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
        return {
            "name": self.name,
            "loss": self._settings.model_dump(mode="json"),
            "hardest": self._hardest,
        }

    def _require(self, needed: bool, argument: str, received: Any) -> None:
        if needed and received is None:
            raise ValueError(
                f"{argument}: expected {_NEEDS[argument]} for loss kind '{self._settings.kind}', "
                f"log_q '{self._settings.log_q}', remove_accidental_hits "
                f"{self._settings.remove_accidental_hits}, received None"
            )
