"""Losses other than one softmax a row: Gramian, bilateral softmax, binary cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from trainer.base.keras2 import tf
from trainer.functional.losses import sampled_softmax

Reduction = Literal["mean", "none"]


def gramian(
    queries: tf.Tensor,
    items: tf.Tensor,
    positives_score: tf.Tensor,
    log_q: tf.Tensor | None = None,
    *,
    weight: float | tf.Tensor,
    sample_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Implicit ALS for towers: (1/B) sum_i r_i (s_ii - 1)^2 + weight <U'U, V'V> / (B C).

    The second term is the mean of s(i, j)^2 over all pairs, known positives too, and comes from two
    [D, D] matrices: no scores [B, C] are needed. In words: every pair is pulled towards 0, the
    positives towards 1.

    Source: Krichene et al., "Efficient Training on Very Large Corpora via Gramian Estimation",
    ICLR 2019, with the batch's Gramians for the estimates.

    Args:
      queries: `[B, D]` query embeddings U, already divided by the temperature.
      items: `[C, D]` embeddings V of all candidates, further negatives included.
      positives_score: `[B]` s_ii.
      log_q: `[C]` log probability per draw of each candidate. With it each v_j v_j' is weighted by
        w_j = 1 / Q_j over the mean of the w: an estimate of the mean over the catalogue. Without
        it the mean is over the candidates, so popular items weigh more.
      weight: of the second term; 0 leaves it out.
      sample_weights: `[B]` rewards r_i of the first term; 1 without it.

    Returns:
      Scalar; float32 at least. 0 for an empty batch.
    """
    queries, items, positives_score = (_full(x) for x in (queries, items, positives_score))
    errors = tf.square(positives_score - 1)
    weighted_items = items
    if log_q is not None:
        # The softmax of -log Q is w / sum w, without overflow for a Q of the far tail.
        shares = tf.nn.softmax(-tf.cast(log_q, items.dtype))
        weighted_items = items * (shares * tf.cast(tf.size(shares), items.dtype))[:, tf.newaxis]
    of_queries = tf.matmul(queries, queries, transpose_a=True)
    of_items = tf.matmul(items, weighted_items, transpose_a=True)
    num_pairs = tf.cast(tf.shape(queries)[0], items.dtype) * tf.cast(
        tf.shape(items)[0], items.dtype
    )
    mean_square = tf.math.divide_no_nan(tf.reduce_sum(of_queries * of_items), num_pairs)
    return _reduce(errors, sample_weights, "mean") + weight * mean_square


def bilateral_softmax(
    scores: tf.Tensor,
    groups: tf.Tensor,
    *,
    positive_temperature: float | tf.Tensor,
    positives: tf.Tensor | None = None,
    weights: tf.Tensor | None = None,
    reduction: Reduction = "mean",
    gather: Callable[[tf.Tensor], tf.Tensor] = lambda values: values,
) -> tf.Tensor:
    """Bilateral softmax (BSL): the positives of one user enter through a log-mean-exp, too.

        (1/B) sum_g |g| [ -ratio log mean_{i in g} exp(s_ii / ratio)
                          + mean_{i in g} log sum_d exp(s_id) ]

    In words: of a user's positives those that fit badly, being noise perhaps, pull less. A user
    with one positive in the batch gives exactly `sampled_softmax`, and so does a ratio towards
    infinity for all; towards 0 only the best positive pulls.

    A correction for sampling belongs to the sum over d alone. What a positive is weighed by is how
    well it fits, not how often it is drawn: with s_ii - log Q_i in its place, the positives of a
    user would also be weighed by Q^(-1/ratio), and the rare one would take the pull of all.

    Source: Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation", ICDE
    2024, arXiv 2312.12882, the loss divided by tau_2. There the sum over d is of negatives only;
    here it has the positive's column, as `sampled_softmax` has.

    Args:
      scores: `[B, C]` logits, divided by the negatives' temperature tau_2. Row i's positive is
        column i.
      groups: `[B]` integer id of each row's user.
      positive_temperature: the ratio tau_1 / tau_2 > 0.
      positives: `[B]` s_ii without a correction by logQ, where `scores` are corrected; the diagonal
        of `scores` without it. A row's correction of its positive stays in the value, as in
        `sampled_softmax`, and out of every gradient.
      weights: `[B]` rewards r_i >= 0; 1 without it. They weigh the rows inside a group's mean as
        well: |g| is their sum, and a row of weight 0 is no positive of its user.
      reduction: "mean" for the loss above, "none" for B terms with that mean.
      gather: of a batch in parts: `[B]` of this part -> `[n]` of all parts, this one's first. A
        user's rows may lie in several parts.

    Returns:
      Scalar, or `[B]`; float32 at least. 0 for an empty batch.

    Raises:
      ValueError: a float temperature is not above 0; otherwise as `sampled_softmax`.
    """
    if isinstance(positive_temperature, (int, float)) and not positive_temperature > 0:
        raise ValueError(
            f"positive_temperature: expected a number above 0, received {positive_temperature}"
        )
    losses = sampled_softmax(scores, reduction="none")  # logsumexp_d(s_id) - s_ii
    own = tf.ones_like(losses) if weights is None else tf.cast(weights, losses.dtype)
    if positives is None:
        positives = tf.linalg.diag_part(scores)
    positives, rewards = gather(tf.cast(positives, losses.dtype)), gather(own)
    users, group = tf.unique(gather(groups), out_idx=tf.int64)
    num_groups = tf.size(users)
    # The maximum is of positives that count: below another's, exp could lose them all.
    counted = tf.where(rewards > 0, positives, tf.cast(losses.dtype.min, losses.dtype))
    largest = tf.gather(tf.math.unsorted_segment_max(counted, group, num_groups), group)
    below = positives - tf.stop_gradient(largest)
    # At weight 0, where `below` may be above 0, exp must not overflow: inf times 0 is NaN.
    terms = rewards * tf.exp(
        tf.where(rewards > 0, below / positive_temperature, tf.zeros_like(below))
    )
    sums = tf.math.unsorted_segment_sum(terms, group, num_groups)
    rewarded = tf.math.unsorted_segment_sum(rewards, group, num_groups)
    mean = tf.where(rewarded > 0, tf.math.divide_no_nan(sums, rewarded), tf.ones_like(sums))
    in_place_of_positive = positive_temperature * tf.gather(tf.math.log(mean), group)
    exchanged = tf.where(rewards > 0, below - in_place_of_positive, tf.zeros_like(below))
    return _reduce(losses + exchanged[: tf.size(losses)], weights, reduction)


def binary_cross_entropy(
    scores: tf.Tensor,
    weights: tf.Tensor | None = None,
    *,
    negatives_weight: float | tf.Tensor = 1.0,
    num_draws: tf.Tensor | None = None,
    reduction: Reduction = "mean",
) -> tf.Tensor:
    """Logistic loss: (1/B) sum_i r_i [softplus(-s_ii) + weight * mean_{d != i} softplus(s_id)].

    The mean is over the row's unmasked negatives, so that their number does not shift the balance.
    What it learns leans on how the negatives are drawn; `noise_contrastive` takes that out.

    Args:
      scores: `[B, C]` logits. Row i's positive is column i; candidates masked by
        `masks.apply_mask` do not count.
      weights: `[B]` rewards r_i; 1 without it.
      negatives_weight: the weight of the negatives' mean, >= 0.
      num_draws: `[B]` what the negatives' sum is divided by; their unmasked number without it.
      reduction: "mean" for the loss above, "none" for its B terms.

    Returns:
      Scalar, or `[B]`; float32 at least. 0 for an empty batch; a row without negatives has only
      its positive's term.

    Raises:
      ValueError: C < B, or an unknown reduction.
    """
    rows, columns = scores.shape[0], scores.shape[1]
    if rows is not None and columns is not None and columns < rows:
        raise ValueError(
            f"scores: expected at least as many candidates as rows, received {scores.shape}"
        )
    masked = float(scores.dtype.min) / 2  # before the cast: of the type that was masked
    scores = _full(scores)

    @tf.custom_gradient
    def of(scores: tf.Tensor) -> Any:
        positives = tf.linalg.diag_part(scores)
        out = tf.fill(tf.shape(positives), tf.constant(masked, scores.dtype))
        negatives = tf.linalg.set_diag(scores, out)
        if num_draws is None:
            count = tf.reduce_sum(tf.cast(negatives > masked / 2, scores.dtype), axis=1)
        else:
            count = tf.cast(num_draws, scores.dtype)
        share = negatives_weight * tf.math.reciprocal_no_nan(count)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            of_scores = tf.sigmoid(negatives) * (upstream * share)[:, tf.newaxis]
            return tf.linalg.set_diag(of_scores, -upstream * tf.sigmoid(-positives))

        # softplus of a masked score is exactly 0, and so is its slope.
        against = tf.reduce_sum(tf.math.softplus(negatives), axis=1)
        return tf.math.softplus(-positives) + share * against, gradient

    return _reduce(of(scores), weights, reduction)


def _full(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float32) if values.dtype in (tf.float16, tf.bfloat16) else values


def _reduce(terms: tf.Tensor, weights: tf.Tensor | None, reduction: Reduction) -> tf.Tensor:
    """The weighted terms, or their sum over B (not over the sum of the weights)."""
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: expected 'mean' or 'none', received {reduction!r}")
    if weights is not None:
        terms = terms * tf.cast(weights, terms.dtype)
    if reduction == "none":
        return terms
    return tf.math.divide_no_nan(tf.reduce_sum(terms), tf.cast(tf.shape(terms)[0], terms.dtype))
