"""Noise-contrastive estimation: by hand, against NumPy, and what its gradient is zero at."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH, MASKED, value_and_gradient
from trainer.base.keras2 import tf
from trainer.functional import logq, masks
from trainer.functional.noise_contrastive import noise_contrastive
from trainer.functional.pair_losses import binary_cross_entropy


def of_scores(scores, log_q, log_z, num_draws, **options):
    return noise_contrastive(logq.correct(scores, log_q), log_z, num_draws, **options)


@BOTH
def test_by_hand(run):
    # Q = 1/2, 1/4, 1/8; Z = 2, w = 2; P = exp(s) / Z = 1/2, 1/2, 1 for s = 0, 0, ln 2.
    # Odds P / (w Q): (1/2)/1 = 1/2 of the positive, (1/2)/(1/2) = 1 and 1/(1/4) = 4 of the others:
    # taken for a positive with 1/3, 1/2, 4/5. Loss ln 3 + 2/2 (ln 2 + ln 5) = ln 30.
    # Slopes: -(1 - 1/3), then 2/2 times 1/2 and 4/5; of log Z the negative of their sum.
    log_q, log_z = tf.math.log([0.5, 0.25, 0.125]), tf.Variable(math.log(2))
    scores = tf.constant([[0.0, 0.0, math.log(2)]])

    def of(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = of_scores(scores, log_q, log_z, tf.constant([2.0]), negatives_weight=2.0)
        return loss, *tape.gradient(loss, [scores, log_z])

    value, of_s, of_z = run(of)(scores)
    np.testing.assert_allclose(value, math.log(30), rtol=1e-6)
    np.testing.assert_allclose(of_s, [[-2 / 3, 1 / 2, 4 / 5]], rtol=1e-6)
    np.testing.assert_allclose(of_z, 2 / 3 - 1 / 2 - 4 / 5, rtol=1e-5)


@BOTH
def test_a_masked_draw_counts_by_hand(run):
    # As above, the last draw masked: 2/2 ln 2 is left of the negatives, not 2/1 ln 2.
    scores = tf.constant([[0.0, 0.0, MASKED]])
    log_q = tf.math.log([0.5, 0.25, 0.125])
    of = run(
        lambda s: value_and_gradient(
            lambda x: of_scores(x, log_q, math.log(2), tf.constant([2.0]), negatives_weight=2.0),
            s,
        )
    )
    value, gradient = of(scores)
    np.testing.assert_allclose(value, math.log(3) + math.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-2 / 3, 1 / 2, 0]], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    num_rows=st.integers(1, 5),
    further=st.integers(0, 4),
    weight=st.floats(0.1, 10),
)
def test_against_the_reference(seed, num_rows, further, weight):
    generator = np.random.default_rng(seed)
    shape = [num_rows, num_rows + further]
    scores, rewards = generator.normal(size=shape) * 3, generator.uniform(0, 2, num_rows)
    q, z = generator.uniform(1e-6, 0.5, shape[1]), generator.uniform(1, 1e5)
    known = generator.random(shape) < 0.4
    np.fill_diagonal(known, False)
    expected = 0.0
    for i in range(num_rows):
        # P / (P + w Q), the paper's h with p_m = exp(s) / Z.
        p = np.exp(scores[i]) / z
        h = p / (p + weight * q)
        others = [math.log(1 - h[d]) for d in range(shape[1]) if d != i and not known[i, d]]
        drawn = max(shape[1] - 1, 1)
        expected -= rewards[i] * (math.log(h[i]) + weight * sum(others) / drawn) / num_rows
    value = of_scores(
        masks.apply_mask(tf.constant(scores, tf.float32), tf.constant(known)),
        tf.constant(np.log(q), tf.float32),
        math.log(z),
        tf.fill([num_rows], float(shape[1] - 1)),
        weights=tf.constant(rewards, tf.float32),
        negatives_weight=weight,
    )
    np.testing.assert_allclose(value, expected, rtol=2e-4)


@pytest.mark.parametrize("weight", [1.0, 5.0])
@pytest.mark.parametrize("hits_removed", [False, True])
def test_the_scores_of_least_loss_are_log_probabilities_however_the_noise_is_drawn(
    weight, hits_removed
):
    # All pairs of a positive y ~ P and one draw d ~ Q, each with its probability: no sampling error.
    p, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])
    z = 7.0
    y, d = (x.ravel() for x in np.meshgrid(range(4), range(4), indexing="ij"))

    def slope(best):
        scores = tf.constant(best)
        with tf.GradientTape() as tape:
            tape.watch(scores)
            pairs = tf.stack([tf.gather(scores, y), tf.gather(scores, d)], axis=1)
            if hits_removed:
                pairs = masks.apply_mask(pairs, np.stack([np.zeros(16, bool), y == d], axis=1))
            terms = [
                noise_contrastive(
                    pairs[k : k + 1] - np.log([[q[y[k]], q[d[k]]]]),
                    math.log(z),
                    tf.constant([1.0], tf.float64),
                    negatives_weight=weight,
                )
                * (p[y[k]] * q[d[k]])
                for k in range(16)
            ]
            loss = tf.add_n(terms)
        return tf.convert_to_tensor(tape.gradient(loss, scores)).numpy()

    best = np.log(p / (1 - p)) if hits_removed else np.log(p)
    np.testing.assert_allclose(slope(best + math.log(z)), 0, atol=1e-7)
    # A score that is too low is raised, one that is too high is lowered.
    moved = best + math.log(z) + [0.5, -0.5, 0.0, 0.0]
    assert slope(moved)[0] > 0.01 and slope(moved)[1] < -0.01


def test_without_a_normaliser_every_item_passes_for_a_positive():
    # What `bce` with log_q 'standard' was: 65,000 items, scores in +-1: the positive's slope is lost.
    log_q = tf.fill([4], -math.log(65_000))
    scores = tf.zeros([1, 4])
    lost = value_and_gradient(lambda s: binary_cross_entropy(s - log_q), scores)[1]
    assert abs(lost[0, 0]) < 2e-5
    log_z = math.log(65_000)
    kept = value_and_gradient(lambda s: of_scores(s, log_q, log_z, tf.constant([3.0])), scores)[1]
    np.testing.assert_allclose(kept, [[-1 / 2, 1 / 6, 1 / 6, 1 / 6]], rtol=1e-4)
