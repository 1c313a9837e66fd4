"""The sign and size of logQ, worked by hand: a test that logits merely change is no test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH
from trainer.base.keras2 import tf
from trainer.functional import logq, losses


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


def test_a_common_factor_of_the_probabilities_cancels():
    log_p = tf.math.log(tf.constant([0.5, 0.3, 0.2]))
    scores = tf.random.stateless_normal([3, 3], [1, 2])
    np.testing.assert_allclose(
        losses.sampled_softmax(logq.correct(scores, log_p)),
        losses.sampled_softmax(logq.correct(scores, log_p + math.log(3))),
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


@BOTH
def test_mixture_by_hand(run):
    # n = 3 draws from p, K = 1 uniform one of 8 items: 3/4 p + 1/4 * 1/8. p = 1/2: 13/32;
    # p = 1/8: 1/8; an item that is not in the log: 1/32.
    log_p = tf.constant([math.log(1 / 2), math.log(1 / 8), float("-inf")])
    log_q = run(lambda x, n: logq.mixture_log_q(x, sampled=n, uniform=1, num_items=8))
    np.testing.assert_allclose(np.exp(log_q(log_p, 3)), [13 / 32, 1 / 8, 1 / 32], rtol=1e-6)
    np.testing.assert_allclose(log_q(log_p, tf.constant(3)), log_q(log_p, 3), rtol=1e-6)
    # Nothing of the log, as before a memory bank fills: uniform.
    np.testing.assert_allclose(np.exp(log_q(log_p, tf.constant(0))), np.full(3, 1 / 8), rtol=1e-6)


def test_mixture_without_uniform_draws_is_p():
    log_p = tf.constant([-1.0, float("-inf")])
    np.testing.assert_array_equal(
        logq.mixture_log_q(log_p, sampled=5, uniform=0, num_items=8), log_p
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1), sampled=st.integers(0, 10_000), uniform=st.integers(1, 10_000)
)
def test_mixture_against_the_reference_sums_to_one(seed, sampled, uniform):
    p = np.random.default_rng(seed).dirichlet(np.full(30, 0.1))
    with np.errstate(divide="ignore"):
        log_p = tf.constant(np.log(p), tf.float32)
    log_q = logq.mixture_log_q(log_p, sampled=sampled, uniform=uniform, num_items=30)
    total = sampled + uniform
    np.testing.assert_allclose(np.exp(log_q), sampled / total * p + uniform / total / 30, rtol=1e-4)
    np.testing.assert_allclose(np.exp(log_q).sum(), 1, rtol=1e-5)


def test_mixture_keeps_the_tail_of_a_large_catalogue():
    # 1024 draws from p = 1e-12 and 1024 uniform ones of 1e8: (1e-12 + 1e-8) / 2.
    log_q = logq.mixture_log_q(
        tf.constant([math.log(1e-12)]), sampled=1024, uniform=1024, num_items=10**8
    )
    np.testing.assert_allclose(log_q, math.log((1e-12 + 1e-8) / 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampled": 2, "uniform": -1, "num_items": 3}, "uniform: expected .* >= 0, received -1"),
        (
            {"sampled": 2, "uniform": 1, "num_items": 0},
            "num_items: expected .* above 0, received 0",
        ),
        ({"sampled": -1, "uniform": 1, "num_items": 3}, "sampled: expected .* received -1"),
        ({"sampled": 0, "uniform": 0, "num_items": 3}, "sampled: .* received 0 and 0 uniform"),
    ],
)
def test_mixture_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        logq.mixture_log_q(tf.zeros([2]), **arguments)


@BOTH
def test_log_complement_of_tiny_and_of_large_q(run):
    # ln(1 - 1e-20) = -1e-20; 1 - Q = 1e-6 and 1e-30: no cancelling on either side.
    log_q = np.array([math.log(1e-20), math.log(0.5), math.log1p(-1e-6), -1e-30])
    expected = [-1e-20, math.log(0.5), math.log(1e-6), math.log(1e-30)]
    np.testing.assert_allclose(
        run(logq.log_complement)(tf.constant(log_q, tf.float32)), expected, rtol=2e-6
    )


@pytest.mark.parametrize("bad", [0.0, 0.5, float("nan")])
def test_log_complement_refuses_a_positive_that_is_always_drawn(bad):
    positive = tf.constant([-1.0, bad])
    with pytest.raises(ValueError, match=r"below 1, received 1 of 2 .* expected counts do not"):
        logq.log_complement(positive)
    with pytest.raises(tf.errors.InvalidArgumentError, match="log_q: expected probabilities"):
        tf.function(logq.log_complement)(positive)
