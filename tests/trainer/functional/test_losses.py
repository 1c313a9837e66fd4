"""Both losses against hand-worked values, a slow NumPy reference, and their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH
from trainer.base.keras2 import tf
from trainer.functional import losses

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def reference(scores, positives, weights):
    """-(1/B) sum_i r_i log P(positive_i) in float64, term by term."""
    total = 0.0
    for row, positive, weight in zip(
        np.asarray(scores, np.float64), positives, weights, strict=True
    ):
        top = max(row)
        normalizer = sum(math.exp(score - top) for score in row)
        total -= weight * (row[positive] - top - math.log(normalizer))
    return total / len(scores)


def draw(seed, num_rows, num_columns, scale=5.0):
    generator = np.random.default_rng(seed)
    scores = (generator.normal(size=[num_rows, num_columns]) * scale).astype(np.float32)
    positives = generator.integers(0, num_columns, num_rows)
    weights = generator.uniform(0, 3, num_rows).astype(np.float32)
    return scores, positives, weights


@BOTH
def test_sampled_softmax_by_hand(run):
    # Row 0: e^ln3 = 3 against 1: P = 3/4. Row 1: 1 against 1: P = 1/2. Rewards 2 and 4.
    # (2 ln(4/3) + 4 ln 2) / 2 = (0.575364 + 2.772589) / 2 = 1.673976: over B, not over 2 + 4.
    scores = tf.constant([[math.log(3), 0.0], [0.0, 0.0]])
    loss = run(losses.sampled_softmax)(scores, weights=tf.constant([2.0, 4.0]))
    np.testing.assert_allclose(loss, 1.673976, rtol=1e-6)


@BOTH
def test_sampled_softmax_further_columns_are_negatives(run):
    # One query, positive in column 0, two extra negatives alike: P = 1/3.
    np.testing.assert_allclose(
        run(losses.sampled_softmax)(tf.zeros([1, 3])), math.log(3), rtol=1e-6
    )


@quick
@given(seed=seeds, num_rows=st.integers(1, 6), num_columns=st.integers(1, 6))
def test_sampled_softmax_against_the_reference(seed, num_rows, num_columns):
    scores, positives, weights = draw(seed, num_rows, num_columns)
    loss = losses.sampled_softmax(scores_of(scores), tf.constant(positives), tf.constant(weights))
    np.testing.assert_allclose(loss, reference(scores, positives, weights), rtol=1e-4, atol=1e-5)


def scores_of(array):
    return tf.constant(array, tf.float32)


@BOTH
def test_gradient_and_value_equal_the_fused_operation(run):
    scores, positives, _ = draw(3, 16, 24)

    def value_and_gradient(x, mine):
        with tf.GradientTape() as tape:
            tape.watch(x)
            if mine:
                loss = losses.sampled_softmax(x, tf.constant(positives))
            else:
                fused = tf.nn.sparse_softmax_cross_entropy_with_logits
                loss = tf.reduce_mean(fused(labels=positives, logits=x))
        return loss, tape.gradient(loss, x)

    mine, theirs = (run(value_and_gradient)(scores_of(scores), which) for which in (True, False))
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(mine[1], theirs[1], atol=1e-7)


@quick
@given(seed=seeds, num_rows=st.integers(1, 6))
def test_permuting_the_batch_permutes_the_terms(seed, num_rows):
    scores, _, weights = draw(seed, num_rows, num_rows)
    order = np.random.default_rng(seed).permutation(num_rows)
    terms = losses.sampled_softmax(scores_of(scores), weights=weights, reduction="none").numpy()
    permuted = losses.sampled_softmax(
        scores_of(scores[order][:, order]), weights=weights[order], reduction="none"
    )
    np.testing.assert_allclose(permuted, terms[order], rtol=1e-4, atol=1e-5)


@quick
@given(seed=seeds, num_rows=st.integers(1, 6), times=st.integers(2, 4))
def test_repeating_the_rows_does_not_scale_the_loss(seed, num_rows, times):
    # The same rows twice over the same candidates: a mean stays, a sum doubles.
    scores, positives, weights = draw(seed, num_rows, 5)
    once = losses.sampled_softmax(scores_of(scores), tf.constant(positives), weights)
    repeated = losses.sampled_softmax(
        tf.tile(scores_of(scores), [times, 1]),
        tf.tile(tf.constant(positives), [times]),
        tf.tile(tf.constant(weights), [times]),
    )
    np.testing.assert_allclose(repeated, once, rtol=1e-4, atol=1e-5)


@quick
@given(seed=seeds, shift=st.floats(-50, 50))
def test_shifting_a_row_changes_nothing(seed, shift):
    scores, positives, _ = draw(seed, 3, 4)
    plain, shifted = (
        losses.sampled_softmax(scores_of(scores + by), tf.constant(positives)) for by in (0, shift)
    )
    np.testing.assert_allclose(shifted, plain, rtol=1e-4, atol=1e-4)


@BOTH
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1e30, -1e30, 0.0], 0.0),
        ([1e30, 1e30, 0.0], math.log(2)),  # logsumexp minus score would round log 2 away
        ([-1e30, -1e30, -1e30], math.log(3)),
        ([0.0, 1e30, 0.0], 1e30),
        ([0.0, -1.7e38, -1.7e38], 0.0),  # everything masked but the positive
        ([-1.7e38, -1.7e38, -1.7e38], math.log(3)),  # everything masked
        ([0.0, -np.inf, -np.inf], 0.0),
    ],
)
def test_extreme_logits(run, row, expected):
    def value_and_gradient(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = losses.sampled_softmax(scores)
        return loss, tape.gradient(loss, scores)

    loss, gradient = run(value_and_gradient)(tf.constant([row]))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(np.sum(gradient), 0.0, atol=1e-6)


def test_batch_of_one_without_negatives_and_empty_batch():
    np.testing.assert_array_equal(losses.sampled_softmax(tf.constant([[3.0]])), 0.0)
    np.testing.assert_array_equal(losses.sampled_softmax(tf.zeros([0, 4])), 0.0)


def test_weight_zero_takes_a_row_out_but_leaves_it_in_the_mean():
    scores = tf.constant([[0.0, 0.0], [1e30, 0.0]])
    np.testing.assert_allclose(
        losses.sampled_softmax(scores, weights=tf.constant([1, 0])), math.log(2) / 2, rtol=1e-6
    )


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_half_precision_is_summed_in_float32(half):
    loss = losses.sampled_softmax(tf.zeros([1024, 1024], half))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, math.log(1024), rtol=1e-6)


def test_refuses_a_diagonal_that_does_not_fit_and_unknown_reductions():
    with pytest.raises(ValueError, match=r"at least as many candidates as rows, received \(3, 2\)"):
        losses.sampled_softmax(tf.zeros([3, 2]))
    with pytest.raises(ValueError, match="expected 'mean' or 'none', received 'sum'"):
        losses.sampled_softmax(tf.zeros([2, 2]), reduction="sum")


@BOTH
def test_contrastive_by_hand(run):
    # Lengths do not matter. cos(a0, b) = 1, 0; cos(a1, b) = 0, 1; over tau = 1/ln 3: ln 3 and 0.
    # Each row: P = 3 / (3 + 1), so the loss is ln(4/3) = 0.287682.
    view_a = tf.constant([[2.0, 0.0], [0.0, 5.0]])
    view_b = tf.constant([[0.1, 0.0], [0.0, 7.0]])
    loss = run(losses.contrastive)(view_a, view_b, 1 / math.log(3))
    np.testing.assert_allclose(loss, 0.287682, rtol=1e-5)


@quick
@given(seed=seeds, num_items=st.integers(1, 6), temperature=st.floats(0.05, 2))
def test_contrastive_against_the_reference(seed, num_items, temperature):
    view_a, view_b = np.random.default_rng(seed).normal(size=[2, num_items, 3])
    cosines = [
        [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) / temperature for b in view_b]
        for a in view_a
    ]
    loss = losses.contrastive(scores_of(view_a), scores_of(view_b), temperature)
    expected = reference(cosines, range(num_items), np.ones(num_items))
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)


@BOTH
def test_contrastive_survives_zero_vectors(run):
    def value_and_gradient(view):
        with tf.GradientTape() as tape:
            tape.watch(view)
            loss = losses.contrastive(view, tf.ones([3, 2]), 0.1)
        return loss, tape.gradient(loss, view)

    loss, gradient = run(value_and_gradient)(tf.zeros([3, 2]))
    np.testing.assert_allclose(loss, math.log(3), rtol=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros([3, 2]))
