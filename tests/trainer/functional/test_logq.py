"""The sign and size of logQ, worked by hand: a test that logits merely change is no test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.functional import logq, losses
from trainer.keras_gate import tf

BOTH = pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eager", "graph"])


@BOTH
def test_popular_item_is_lowered_more(run):
    # Two items that score 2 alike; the first is drawn with p = 1/2, the second with p = 1/8.
    # 2 - ln(1/2) = 2 + 0.6931 = 2.6931;  2 - ln(1/8) = 2 + 2.0794 = 4.0794.
    corrected = run(logq.correct)(
        tf.constant([[2.0, 2.0]]), tf.constant([math.log(0.5), math.log(0.125)])
    )
    np.testing.assert_allclose(corrected, [[2.693147, 4.079442]], rtol=1e-6)
    assert corrected[0, 0] < corrected[0, 1]


@BOTH
def test_no_floor_in_the_tail(run):
    # Between p = 1e-8 and 1e-12 lie ln(1e4) = 9.21034; a floor of 1e-6 would make both equal.
    log_q = logq.log_probability_per_draw(tf.constant([10_000, 1]), 10**12)
    corrected = run(logq.correct)(tf.zeros([1, 2]), log_q)
    np.testing.assert_allclose(corrected, [[18.420681, 27.631021]], rtol=1e-6)
    np.testing.assert_allclose(corrected[0, 1] - corrected[0, 0], 9.21034, rtol=1e-5)


def test_probability_per_draw_by_hand():
    # 6 events: 3/6, 2/6, 1/6, and one item without any.
    log_p = logq.log_probability_per_draw(tf.constant([3, 2, 1, 0]), 6)
    assert log_p.dtype == tf.float32
    np.testing.assert_allclose(np.exp(log_p), [1 / 2, 1 / 3, 1 / 6, 0.0], rtol=1e-6)


def test_counts_beyond_float32_keep_their_ratio():
    # 2^24 + 1 is no float32; the tail is far from the total of 1e12.
    log_p = logq.log_probability_per_draw(tf.constant([2**24 + 1, 1], tf.int64), 10**12)
    np.testing.assert_allclose(log_p[1], -12 * math.log(10), rtol=1e-6)
    np.testing.assert_allclose(log_p[0], math.log(2**24 + 1) - 12 * math.log(10), rtol=1e-6)


@BOTH
def test_expected_count_per_batch_by_hand(run):
    # p = 1/4 and 1/1000 per draw; in 8 draws 2 and 0.008 are expected: a count, it may exceed 1.
    log_p = tf.constant([math.log(0.25), math.log(0.001)])
    log_count = run(logq.log_expected_count)(log_p, tf.constant(8))
    np.testing.assert_allclose(np.exp(log_count), [2.0, 0.008], rtol=1e-5)


def test_per_draw_and_per_batch_differ_by_a_factor_that_cancels():
    log_p = tf.math.log(tf.constant([0.5, 0.3, 0.2]))
    scores = tf.random.stateless_normal([3, 3], [1, 2])
    per_batch = logq.log_expected_count(log_p, 3)
    np.testing.assert_allclose(per_batch - log_p, np.full(3, math.log(3)), rtol=1e-6)
    np.testing.assert_allclose(
        losses.sampled_softmax(logq.correct(scores, log_p)),
        losses.sampled_softmax(logq.correct(scores, per_batch)),
        rtol=1e-6,
    )


@settings(max_examples=25, deadline=None)
@given(
    num_rows=st.integers(1, 5),
    log_p=st.floats(-28, 0),
    seed=st.integers(0, 2**31 - 1),
)
def test_uniform_q_changes_no_gradient(num_rows, log_p, seed):
    scores = tf.random.stateless_normal([num_rows, num_rows + 1], [seed, 0]) * 5

    def gradient(correct):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            logits = logq.correct(scores, tf.fill([num_rows + 1], log_p)) if correct else scores
            loss = losses.sampled_softmax(logits)
        return tape.gradient(loss, scores)

    np.testing.assert_allclose(gradient(True), gradient(False), atol=1e-5)


@pytest.mark.parametrize("bad", [float("-inf"), float("inf"), float("nan")])
def test_refuses_impossible_log_q(bad):
    log_q = tf.constant([-1.0, bad])
    with pytest.raises(ValueError, match=r"expected finite .* received 1 of 2 .*; estimate q"):
        logq.correct(tf.zeros([2, 2]), log_q)
    with pytest.raises(tf.errors.InvalidArgumentError, match="log_q: expected finite"):
        tf.function(logq.correct)(tf.zeros([2, 2]), log_q)


@pytest.mark.parametrize("shape", [[2], [4], [3, 1], []])
def test_refuses_log_q_of_other_candidates(shape):
    with pytest.raises(ValueError, match=r"one value per candidate \[C\]"):
        logq.correct(tf.zeros([3, 3]), tf.zeros(shape))


def test_refuses_impossible_counts():
    with pytest.raises(ValueError, match="counts: expected numbers >= 0, received -1"):
        logq.log_probability_per_draw(tf.constant([1, -1]), 2)
    with pytest.raises(ValueError, match="total: expected a number above 0, received 0"):
        logq.log_probability_per_draw(tf.constant([0]), 0)
