"""Normalisation is safe at its singular point, and scores are inner products over a temperature."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.maths import BOTH
from trainer.base.keras2 import tf
from trainer.functional import masks, similarity
from trainer.functional.losses import sampled_softmax


@BOTH
def test_l2_normalize_by_hand(run):
    # [3, 4] has length 5; [1, 2, 2] would have 3; the zero vector stays where it is.
    normalized = run(similarity.l2_normalize)(tf.constant([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]]))
    np.testing.assert_allclose(normalized, [[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-10, 1e-3, 1.0, 1e20, 1e30])
def test_l2_normalize_does_not_depend_on_the_size(size):
    # 1e30 squared overflows float32, 1e-10 squared is lost beside 1e-12.
    normalized = similarity.l2_normalize(tf.constant([[3.0, 4.0]]) * size)
    np.testing.assert_allclose(normalized, [[0.6, 0.8]], rtol=1e-5)


@BOTH
def test_l2_normalize_gradient_against_the_jacobian(run):
    vectors = tf.constant([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [1.0, -2.0, 2.0]])
    upstream = tf.constant([[1.0, -1.0, 2.0], [5.0, 5.0, 5.0], [0.5, 0.0, 1.0]])

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(similarity.l2_normalize(x) * upstream)
        return tape.gradient(value, x)

    expected = np.zeros([3, 3])  # and zero, not 1e6 or NaN, for the zero vector
    for row in (0, 2):
        x, g = vectors[row].numpy().astype(np.float64), upstream[row].numpy()
        length = np.linalg.norm(x)
        unit = x / length
        expected[row] = (g - unit * (unit @ g)) / length  # (I - uu')/||x|| applied to g
    np.testing.assert_allclose(run(gradient)(vectors), expected, atol=1e-6)


@BOTH
def test_scores_by_hand(run):
    query = tf.constant([[1.0, 0.0], [0.6, 0.8]])
    items = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    # <q0, .> = 1, 0, 0.8; <q1, .> = 0.6, 0.8, 0.48 + 0.48 = 0.96; over 0.5: doubled.
    expected = [[2.0, 0.0, 1.6], [1.2, 1.6, 1.92]]
    np.testing.assert_allclose(run(similarity.scores)(query, items, 0.5), expected, rtol=1e-6)


def test_scores_takes_a_learned_temperature():
    temperature = tf.Variable(0.5)
    with tf.GradientTape() as tape:
        score = similarity.scores(tf.constant([[3.0]]), tf.constant([[1.0]]), temperature)
    # d(3/t)/dt = -3/t^2 = -12
    np.testing.assert_allclose(tape.gradient(score, temperature), -12.0, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), 0])
def test_scores_refuses_an_impossible_temperature(temperature):
    with pytest.raises(ValueError, match="expected a number above 0, received"):
        similarity.scores(tf.ones([1, 1]), tf.ones([1, 1]), temperature)


def test_scores_refuses_several_vectors_per_query():
    with pytest.raises(ValueError, match=r"query: expected embeddings.*received shape \(2, 3, 4\)"):
        similarity.scores(tf.ones([2, 3, 4]), tf.ones([2, 4]))


def masked_loss(scores, num_rows):
    """Softmax over `[B, 2 B]` scores whose second half repeats the first: own copies do not count."""
    own_copy = tf.concat([tf.zeros([num_rows, num_rows]), tf.eye(num_rows)], axis=1)
    return sampled_softmax(masks.apply_mask(scores, tf.cast(own_copy, tf.bool)))


@BOTH
def test_constants_are_scored_and_learn_nothing(run):
    query, items, constants = (tf.random.stateless_normal([n, 3], [n, 1]) for n in (4, 5, 7))

    def gradients(mine):
        with tf.GradientTape() as tape:
            tape.watch([query, items])
            if mine:
                scores = similarity.scores(query, items, 0.5, constants=constants)
            else:
                every = tf.concat([items, constants], axis=0)
                scores = tf.matmul(query / 0.5, every, transpose_b=True)
            loss = sampled_softmax(scores)
        return scores, *tape.gradient(loss, [query, items])

    for mine, slow in zip(run(lambda: gradients(True))(), gradients(False), strict=True):
        np.testing.assert_allclose(mine, slow, rtol=1e-5, atol=1e-6)


@BOTH
def test_balanced_items_learn_as_if_the_constants_did(run):
    # The bank holds the batch itself: with all 2 B columns learning, each item is pushed twice and
    # pulled once. A bank of constants pushes once; balanced, twice again.
    query, items = (tf.random.stateless_normal([6, 3], [n, 2]) for n in (1, 2))

    def gradient(constants, share):
        with tf.GradientTape() as tape:
            tape.watch(items)
            if constants:
                scores = similarity.scores(query, items, constants=items, negatives_share=share)
            else:
                scores = similarity.scores(query, tf.concat([items, items], axis=0))
            loss = masked_loss(scores, 6)
        return loss, tape.gradient(loss, items)

    share = tf.fill([6], similarity.balanced_share(tf.constant(6), tf.constant(6)))
    wanted_loss, wanted = gradient(False, None)
    loss, balanced = run(lambda: gradient(True, share))()
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-6)
    np.testing.assert_allclose(balanced, wanted, rtol=1e-4, atol=1e-6)
    assert np.abs(gradient(True, None)[1] - wanted).max() > 0.01


def test_balanced_share_by_hand():
    assert float(similarity.balanced_share(tf.constant(1024), tf.constant(2048))) == 3.0
    assert float(similarity.balanced_share(tf.constant(1024), tf.constant(0))) == 1.0
    assert float(similarity.balanced_share(tf.constant(0), tf.constant(5))) == 1.0


def test_learning_by_scales_the_gradient_alone():
    vectors, share = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([1.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        same = similarity.learning_by(vectors, share)
        loss = tf.reduce_sum(same)
    np.testing.assert_array_equal(same, vectors)
    np.testing.assert_array_equal(tape.gradient(loss, vectors), [[1, 1], [3, 3]])
