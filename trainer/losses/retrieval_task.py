"""The main task: tell a query's item from the negatives, by the loss that the configuration names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from preprocessing.base.errors import LongtailError
from trainer.base.keras2 import keras, tf, tfrs
from trainer.config.loss import LossConfig
from trainer.functional import masks, similarity
from trainer.losses.gramian import Pairs
from trainer.losses.registry import LOSSES
from trainer.losses.scored import Scored

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
      num_items: size of the catalogue, from which `log_z` starts.
      metrics: full-corpus metrics, as in TFRS. Not part of `get_config`, nor are the next two: they
        belong to the model that sets them, with its corpus of candidates.
      batch_metrics: in-batch metrics, as in TFRS.
      loss_metrics: metrics of the loss, as in TFRS.
      name: of the layer.

    Raises:
      LongtailError: `hardest` meets a loss that needs all draws, see `trainer.losses.registry`.
    """

    def __init__(
        self,
        loss: LossConfig | dict[str, Any] | None = None,
        *,
        hardest: int | None = None,
        num_items: int = 1,
        metrics: Sequence[tfrs.metrics.Factorized] | tfrs.metrics.Factorized | None = None,
        batch_metrics: Sequence[keras.metrics.Metric] | None = None,
        loss_metrics: Sequence[keras.metrics.Metric] | None = None,
        name: str | None = None,
    ) -> None:
        settings = loss if isinstance(loss, LossConfig) else LossConfig(**(loss or {}))
        loss_of = LOSSES[settings.kind]
        if hardest and settings.log_q not in loss_of.hardest:
            raise LongtailError(
                f"hardest: expected None with loss kind '{settings.kind}' and log_q "
                f"'{settings.log_q}', received {hardest}"
            )
        super().__init__(
            metrics=metrics,
            batch_metrics=list(batch_metrics or ()),
            loss_metrics=list(loss_metrics or ()),
            temperature=settings.temperature,
            remove_accidental_hits=settings.remove_accidental_hits,
            name=name,
        )
        self._settings, self._hardest, self._num_items = settings, hardest, num_items
        self._loss, self._function = loss_of, loss_of.function
        self.log_z: tf.Variable | None = None
        """Normaliser of noise-contrastive estimation, learned; None with any other loss."""
        if settings.log_q in loss_of.learns_log_z:
            at_equal_scores = keras.initializers.Constant(math.log(num_items))
            self.log_z = self.add_weight(name="log_z", shape=[], initializer=at_equal_scores)

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
        known_mask: tf.Tensor | None = None,
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
            meaning), as if it had not been drawn. A row's positive is always considered. The
            gramian loss, which has no scores of single pairs, takes `[C]` alone.
          known_mask: `[B, C]` bool, True where a candidate was drawn and is no negative of the row,
            whose user is known to want it; never at a row's positive. Not for the gramian loss.
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
        log_q = candidate_log_q if settings.log_q != "none" else None
        scores: tf.Tensor | None = None
        if not self._loss.by_row:
            if known_mask is not None:
                raise ValueError(
                    f"known_mask: expected None for loss kind '{settings.kind}', received one"
                )
            pairs = Pairs(
                query_embeddings, candidate_embeddings, log_q, sample_weight, score_mask,
                remembered_embeddings, negatives_share,
            )  # fmt: skip
            loss = self._function(pairs, settings)
        else:
            scores = similarity.scores(
                query_embeddings, candidate_embeddings, settings.temperature,
                constants=remembered_embeddings, negatives_share=negatives_share,
            )  # fmt: skip
            scores, columns, draws = self._masked(scores, candidate_ids, score_mask, known_mask)
            self._require(self._loss.needs_groups, "groups", groups)
            scored = Scored(
                scores,
                log_q,
                columns,
                draws,
                self._refused(query_embeddings, refused_embeddings, refused_mask),
                sample_weight,
                groups,
                self.log_z,
            )
            loss = self._function(scored, settings, self._hardest)
            scores = scored.with_refused()
        self._update_metrics(
            query_embeddings, candidate_embeddings, positive_ids, sample_weight, loss, scores,
            compute_metrics, compute_batch_metrics,
        )  # fmt: skip
        return loss

    def _masked(
        self,
        scores: tf.Tensor,
        ids: tf.Tensor | None,
        considered: tf.Tensor | None,
        known: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`[B, C]` scores, masked where a candidate is no negative of a row.

        Returns:
          The scores; `[B]` number of columns that were drawn, the row's own among them; and `[B]`
          how many of these hold another item than the row's positive.
        """
        shape = tf.shape(scores)
        columns, masked = tf.fill(shape[:1], tf.cast(shape[1], tf.float32)), None
        if considered is not None:
            masked = masks.but_positives(tf.logical_not(considered), shape)
            columns -= _count(masked)
        draws = columns - 1
        if self._settings.remove_accidental_hits:
            self._require(True, "candidate_ids", ids)
            assert ids is not None
            hits = masks.accidental_hits(ids[: shape[0]], ids)
            draws -= _count(hits if masked is None else hits & ~masked)
            masked = hits if masked is None else masked | hits
        if known is not None:
            masked = known if masked is None else masked | known
        return scores if masked is None else masks.apply_mask(scores, masked), columns, draws

    def _refused(
        self, queries: tf.Tensor, refused: tf.Tensor | None, is_refused: tf.Tensor
    ) -> tf.Tensor | None:
        """`[B, R]` scores of what each user refused."""
        if refused is None:
            return None
        own = tf.einsum("bd,brd->br", queries / self._settings.temperature, refused)
        return masks.apply_mask(own, tf.logical_not(is_refused))

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
            "num_items": self._num_items,
        }

    def _require(self, needed: bool, argument: str, received: Any) -> None:
        if needed and received is None:
            raise ValueError(
                f"{argument} is missing: {_NEEDS[argument]}, for loss kind '{self._settings.kind}', "
                f"log_q '{self._settings.log_q}', remove_accidental_hits "
                f"{self._settings.remove_accidental_hits}"
            )


def _count(mask: tf.Tensor) -> tf.Tensor:
    """`[B]` float, how many of a row are True."""
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
