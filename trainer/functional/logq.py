"""logQ: undo in the logits that popular items are sampled as negatives more often.

Two probabilities are easily confused and differ by a factor of about the batch size B: that an item
is drawn in *one draw* (p), and how often it is expected in a *batch of B draws* (B p). The factor
cancels in a softmax in which every logit is corrected, the positive's too, and only there. Every
name here says which one it means.
"""

from __future__ import annotations

from trainer.keras_gate import tf


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
    return scores - log_q


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


def log_expected_count(log_p_per_draw: tf.Tensor, batch_size: int | tf.Tensor) -> tf.Tensor:
    """Log of how often an item is expected in a batch: log(B p) = log p + log B.

    This is the expected *count*, which may exceed 1, and not the probability of at least one
    occurrence, 1 - (1 - p)^B, which it approaches for small B p.

    Args:
      log_p_per_draw: `[C]` log probability of one draw.
      batch_size: B, the number of draws.

    Returns:
      `[C]` log expected count per batch.
    """
    return log_p_per_draw + tf.math.log(tf.cast(batch_size, log_p_per_draw.dtype))
