"""logQ: undo in the logits that popular items are sampled as negatives more often.

Two probabilities are easily confused and differ by a factor of about the batch size B: that an item
is drawn in *one draw* (p), and that it occurs in a *batch of B draws* (1 - (1 - p)^B, about B p). A
common factor cancels in a softmax in which every logit is corrected, the positive's too, and only
there. Here all are of one draw; `functional.frequency` estimates the other and converts it.
"""

from __future__ import annotations

import math

from trainer.base.keras2 import tf


def correct(scores: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
    """Corrects scores for sampling: s_c(i, j) = s(i, j) - log q_j.

    In words: a popular item is lowered more, so that being a frequent negative no longer pushes it
    down. Belongs after the temperature. There is no floor on q: in a corpus of 1e8 items most q
    lie below the customary 1e-6, and a floor would leave exactly the tail uncorrected.

    Source: Yi et al., RecSys 2019, section 3, equations 4 and 5. As there, all C columns are
    corrected, the positive's too.

    Args:
      scores: `[B, C]` logits.
      log_q: `[C]` natural logarithm of each candidate's sampling probability, per draw or per
        batch, but the same for all C.

    Returns:
      `[B, C]` corrected logits.

    Raises:
      ValueError: eagerly, `log_q` is not `[C]`, or not finite (-inf is log 0: an item that can
        never be sampled). In a graph the latter is a `tf.errors.InvalidArgumentError` at run time.
    """
    return scores - checked(scores, log_q)


def log_probability_per_draw(counts: tf.Tensor, total: int | float | tf.Tensor) -> tf.Tensor:
    """Estimates the log probability that one draw from the log gives item j: log(counts_j / total).

    Args:
      counts: `[C]` number of events of each item, integer or float (decayed counts).
      total: number of events of all items, also of those that are not among the C.

    Returns:
      `[C]` float32 log p. An item without events gets -inf: it cannot be drawn from this log, and
      `correct` refuses it where it turns up as a candidate all the same.

    Raises:
      ValueError: eagerly, a count is negative or `total` is not above 0.
    """
    counts = tf.cast(counts, tf.float64)  # float32 holds no integer above 2^24 exactly
    total = tf.cast(total, tf.float64)
    if tf.executing_eagerly():
        if not float(total) > 0:
            raise ValueError(f"total: expected a number above 0, received {float(total)}")
        if tf.size(counts) and float(tf.reduce_min(counts)) < 0:
            raise ValueError(
                f"counts: expected numbers >= 0, received {float(tf.reduce_min(counts))}"
            )
    return tf.cast(tf.math.log(counts) - tf.math.log(total), tf.float32)


def mixture_log_q(
    log_p: tf.Tensor, *, sampled: int | tf.Tensor, uniform: int, num_items: int
) -> tf.Tensor:
    """Log probability per draw of a mixture: Q(j) = n/(n+K) p_j + K/(n+K) / |V|.

    In words: K uniform draws give every item a floor of K / (n+K) / |V|, so that an item that the
    log never shows can be a negative too.

    Source: Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
    Recommendations", WWW 2020 Companion.

    Args:
      log_p: `[C]` log probability of one draw from the log. -inf (an item that is not in the log)
        gives a finite result where K > 0.
      sampled: n, number of candidates drawn from p: the batch and the memory bank.
      uniform: K, number of candidates drawn uniformly from the catalogue.
      num_items: |V|, size of the catalogue.

    Returns:
      `[C]` log Q per draw; `log_p` itself for K = 0.

    Raises:
      ValueError: K is negative, |V| is not above 0, or n (given as an int) is negative or, with
        K = 0, zero.
    """
    if uniform < 0:
        raise ValueError(f"uniform: expected a number of draws >= 0, received {uniform}")
    if num_items < 1:
        raise ValueError(f"num_items: expected a number above 0, received {num_items}")
    if isinstance(sampled, int) and (sampled < 0 or sampled + uniform == 0):
        raise ValueError(f"sampled: expected some draws, received {sampled} and {uniform} uniform")
    if uniform == 0:
        return log_p
    drawn = tf.cast(sampled, log_p.dtype)
    log_total = tf.math.log(drawn + uniform)
    from_log = log_p + (tf.math.log(drawn) - log_total)
    from_catalogue = math.log(uniform) - math.log(num_items) - log_total
    # log(e^a + e^b); b is finite, so an a of -inf is exact and there is no inf - inf.
    larger = tf.maximum(from_log, from_catalogue)
    return larger + tf.math.log1p(tf.exp(-tf.abs(from_log - from_catalogue)))


def log_complement(log_q: tf.Tensor) -> tf.Tensor:
    """Log probability that one draw does not give the item: log(1 - Q).

    Args:
      log_q: `[...]` log probability of one draw; below 0.

    Returns:
      `[...]` log(1 - Q), exact for a Q near 0 and near 1.

    Raises:
      ValueError: eagerly, Q >= 1 or NaN. In a graph a `tf.errors.InvalidArgumentError` at run time.
    """
    remedy = "a probability of one draw sums to 1 over the catalogue; expected counts do not"
    if tf.executing_eagerly():
        bad = int(tf.reduce_sum(tf.cast(~(log_q < 0), tf.int32)))
        if bad:
            raise ValueError(
                f"log_q: expected probabilities below 1, received {bad} of {tf.size(log_q)} that "
                f"are not; {remedy}"
            )
    else:
        expected = tf.debugging.Assert(
            tf.reduce_all(log_q < 0), [f"log_q: expected probabilities below 1; {remedy}"]
        )
        with tf.control_dependencies([expected]):
            log_q = tf.identity(log_q)
    # log1p(-exp(x)) cancels for x near 0 (Q near 1), log(-expm1(x)) for very negative x.
    near_one = log_q > -math.log(2)
    safe = tf.where(near_one, log_q, -tf.ones_like(log_q))
    return tf.where(near_one, tf.math.log(-tf.math.expm1(safe)), tf.math.log1p(-tf.exp(log_q)))


def checked(scores: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
    """`[C]` log_q in the type of the `[B, C]` scores; refused as `correct` says."""
    log_q = tf.cast(log_q, scores.dtype)
    if log_q.shape.rank not in (1, None) or not log_q.shape.is_compatible_with(scores.shape[1:]):
        raise ValueError(
            f"log_q: expected one value per candidate [C] for scores [B, C] of shape "
            f"{scores.shape}, received shape {log_q.shape}; slice or concatenate it together with "
            "the candidates"
        )
    remedy = "estimate q over the data that the candidates are drawn from, or give q a pseudo-count"
    if tf.executing_eagerly():
        bad = int(tf.reduce_sum(tf.cast(~tf.math.is_finite(log_q), tf.int32)))
        if bad:
            raise ValueError(
                f"log_q: expected finite log probabilities, received {bad} of {log_q.shape[0]} "
                f"that are infinite or NaN (log 0 is -inf); {remedy}"
            )
    else:
        # A [C] check costs nothing beside [B, C] scores, and a NaN loss is hard to trace back.
        log_q = tf.debugging.check_numerics(
            log_q, f"log_q: expected finite log probabilities (log 0 is -inf); {remedy}"
        )
    return log_q
