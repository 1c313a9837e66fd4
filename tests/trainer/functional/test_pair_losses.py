"""Gramian, bilateral softmax and logistic loss: by hand, against NumPy, and their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH, MASKED, value_and_gradient
from trainer.base.keras2 import tf
from trainer.functional import logq, losses, masks
from trainer.functional.pair_losses import bilateral_softmax, binary_cross_entropy, gramian

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def draw(seed, num_rows, num_columns, scale=3.0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=[num_rows, num_columns]) * scale
    return (
        tf.constant(scores, tf.float32),
        tf.constant(generator.uniform(0.1, 3, num_rows), tf.float32),
        generator.integers(0, 3, num_rows),
    )


@BOTH
def test_gramian_by_hand(run):
    # Scores: u0 = (1, 0) against (2, 0), (0, 1), (1, 1): 2, 0, 1; u1 = (0, 3): 0, 3, 3.
    # Positives 2 and 3: ((2-1)^2 + (3-1)^2) / 2 = 2.5. Squares 4 + 0 + 1 + 0 + 9 + 9 = 23 over 6.
    # With weight 2: 2.5 + 46/6 = 10.166667.
    queries = tf.constant([[1.0, 0.0], [0.0, 3.0]])
    items = tf.constant([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    loss = run(lambda u, v: gramian(u, v, tf.constant([2.0, 3.0]), weight=2.0))
    np.testing.assert_allclose(loss(queries, items), 2.5 + 46 / 6, rtol=1e-6)
    # Q = 1/2, 1/4, 1/4: 1/Q = 2, 4, 4, over their mean 10/3: w = 0.6, 1.2, 1.2.
    # 0.6 (4 + 0) + 1.2 (0 + 9) + 1.2 (1 + 9) = 25.2 over 6 is 4.2; rewards 1 and 0: 1/2.
    loss = run(
        lambda u, v: gramian(
            u,
            v,
            tf.constant([2.0, 3.0]),
            tf.math.log(tf.constant([0.5, 0.25, 0.25])),
            weight=1.0,
            sample_weights=tf.constant([1.0, 0.0]),
        )
    )
    np.testing.assert_allclose(loss(queries, items), 4.7, rtol=1e-6)


@quick
@given(seed=seeds, num_rows=st.integers(1, 6), further=st.integers(0, 6), with_q=st.booleans())
def test_gramian_against_all_pairs(seed, num_rows, further, with_q):
    generator = np.random.default_rng(seed)
    num_columns = num_rows + further
    queries, items = generator.normal(size=[num_rows, 4]), generator.normal(size=[num_columns, 4])
    log_q = np.log(generator.dirichlet(np.ones(num_columns))) if with_q else None
    scores = queries @ items.T  # the matrix that the function does without
    share = np.ones(num_columns) if log_q is None else np.exp(-log_q)
    expected = np.mean((np.diag(scores) - 1) ** 2)
    expected += 0.7 * np.mean(scores**2 * (share / share.mean()))
    loss = gramian(
        tf.constant(queries),
        tf.constant(items),
        tf.constant(np.diag(scores)),
        log_q,
        weight=0.7,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_gramian_gradient_is_that_of_all_pairs():
    generator = np.random.default_rng(1)
    queries, items = (tf.constant(generator.normal(size=[n, 3])) for n in (4, 6))

    def gradients(pairwise):
        with tf.GradientTape() as tape:
            tape.watch([queries, items])
            own = tf.reduce_sum(queries * items[:4], axis=1)
            if pairwise:
                squares = tf.square(tf.matmul(queries, items, transpose_b=True))
                loss = tf.reduce_mean(tf.square(own - 1)) + 0.3 * tf.reduce_mean(squares)
            else:
                loss = gramian(queries, items, own, weight=0.3)
        return tape.gradient(loss, [queries, items])

    for mine, slow in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(mine, slow, atol=1e-12)


def test_gramian_weights_estimate_the_mean_over_the_catalogue():
    # 200,000 draws from 20 items with Q ~ 1/rank: the weighted mean is the uniform one within the
    # sampling error, the plain one is not.
    generator = np.random.default_rng(4)
    q = 1 / np.arange(1, 21)
    q /= q.sum()
    queries, corpus = generator.normal(size=[8, 4]), generator.normal(size=[20, 4])
    ids = generator.choice(20, 200_000, p=q)

    def of_pairs(items, log_q):
        none = tf.ones([8], tf.float64)  # (1 - 1)^2 = 0
        return gramian(tf.constant(queries), items, none, log_q, weight=1.0)

    uniform = of_pairs(tf.constant(corpus), None)
    np.testing.assert_allclose(
        of_pairs(tf.constant(corpus[ids]), np.log(q[ids])), uniform, rtol=0.01
    )
    assert abs(of_pairs(tf.constant(corpus[ids]), None) / uniform - 1) > 0.1


def test_gramian_extremes():
    # Q down to 1e-30 overflows no weight; an empty batch costs nothing.
    items, own = tf.eye(2), tf.ones([2])
    loss = gramian(items, items, own, tf.constant([-69.0, -1e-3]), weight=1.0)
    np.testing.assert_allclose(loss, 0.5, rtol=1e-6)  # w = 2 and 0: (2 * 1 + 0) / 4
    empty = tf.zeros([0, 2])
    np.testing.assert_array_equal(gramian(empty, items, own[:0], weight=1.0), 0.0)
    half = tf.cast(items, tf.bfloat16)
    assert gramian(half, half, tf.cast(own, tf.bfloat16), weight=1.0).dtype == tf.float32


def bilateral_reference(scores, groups, ratio, weights, log_q=0.0):
    """(1/B) sum_g |g| [...] in float64, with |g| and the mean in g by the weights.

    With log Q in the sums over d alone, and that of the positive as a constant beside them.
    """
    scores = np.asarray(scores, np.float64)
    corrected = scores - log_q
    constant = np.broadcast_to(log_q, scores.shape[1])
    weights = np.asarray(weights, np.float64)
    total = 0.0
    for group in set(groups):
        rows = [i for i, g in enumerate(groups) if g == group]
        size = sum(weights[i] for i in rows)
        mean = sum(weights[i] * math.exp(scores[i, i] / ratio) for i in rows) / size
        total -= size * ratio * math.log(mean)
        total += sum(weights[i] * math.log(sum(np.exp(corrected[i]))) for i in rows)
        total += sum(weights[i] * constant[i] for i in rows)
    return total / len(scores)


@BOTH
def test_bilateral_by_hand(run):
    # Rows 0 and 1 are of one user, positives ln 4 and 0, ratio 2: mean of 2 and 1 is 3/2, so
    # 2 ln(3/2) = ln(9/4) stands for either positive. Row 2: its own ln 3 (ratio cancels).
    # Sums over d: 4 + 1 + 1 = 6, 3, 3 + 2 = 5: (ln 6 + ln 3 - 2 ln(9/4) + ln 5 - ln 3) / 3.
    scores = tf.math.log([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 3.0]])
    loss = run(lambda s: bilateral_softmax(s, tf.constant([7, 7, 3]), positive_temperature=2.0))
    expected = (math.log(6) + math.log(3) - 2 * math.log(9 / 4) + math.log(5) - math.log(3)) / 3
    np.testing.assert_allclose(loss(scores), expected, rtol=1e-6)


@BOTH
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_bilateral_weighs_no_positive_by_how_often_it_is_drawn(run, ratio):
    # Two positives of one user and one more item, all scores 0, log Q -5, -12 and -8: corrected
    # logits 5, 12, 8 in either row. P = e^5, e^12 over e^5 + e^12 + e^8 = 165,884.17.
    # Equal scores share the pull 1 + 1 equally at any ratio: slopes P_i - 1, -0.99910533 and
    # -0.01886481, over B = 2. (By s - log Q the shares were 0.0018 and 1.9982 at ratio 1.)
    # Value: (ln 165,884.17 - 5 + ln 165,884.17 - 12) / 2 = 12.0190449 - 8.5.
    log_q = tf.constant([-5.0, -12.0, -8.0])
    of = run(
        lambda s: value_and_gradient(
            lambda x: bilateral_softmax(
                logq.correct(x, log_q),
                tf.constant([3, 3]),
                positive_temperature=ratio,
                positives=tf.linalg.diag_part(x),
            ),
            s,
        )
    )
    value, gradient = of(tf.zeros([2, 3]))
    np.testing.assert_allclose(value, 3.5190449, rtol=1e-6)
    np.testing.assert_allclose(np.diag(gradient), [-0.99910533 / 2, -0.01886481 / 2], rtol=1e-5)


@quick
@given(seed=seeds, num_rows=st.integers(1, 7), ratio=st.floats(0.2, 20), weighted=st.booleans())
def test_bilateral_with_a_correction_against_the_reference(seed, num_rows, ratio, weighted):
    scores, weights, groups = draw(seed, num_rows, num_rows + 2)
    log_q = np.random.default_rng(seed).uniform(-12, -1, num_rows + 2)
    loss = bilateral_softmax(
        logq.correct(scores, tf.constant(log_q, tf.float32)),
        tf.constant(groups),
        positive_temperature=ratio,
        positives=tf.linalg.diag_part(scores),
        weights=weights if weighted else None,
    )
    rewards = weights if weighted else np.ones(num_rows)
    expected = bilateral_reference(scores, groups, ratio, rewards, log_q)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)


@quick
@given(seed=seeds, num_rows=st.integers(1, 7), ratio=st.floats(0.2, 20), weighted=st.booleans())
def test_bilateral_against_the_reference(seed, num_rows, ratio, weighted):
    scores, weights, groups = draw(seed, num_rows, num_rows + 2)
    loss = bilateral_softmax(
        scores,
        tf.constant(groups),
        positive_temperature=ratio,
        weights=weights if weighted else None,
    )
    expected = bilateral_reference(
        scores, groups, ratio, weights if weighted else np.ones(num_rows)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)


@quick
@given(seed=seeds, num_rows=st.integers(1, 6), ratio=st.floats(0.01, 100))
def test_groups_of_one_are_the_sampled_softmax(seed, num_rows, ratio):
    scores, weights, _ = draw(seed, num_rows, num_rows + 2)
    alone = tf.range(num_rows) * 10
    mine = value_and_gradient(
        lambda s: bilateral_softmax(s, alone, positive_temperature=ratio, weights=weights), scores
    )
    plain = value_and_gradient(lambda s: losses.sampled_softmax(s, weights=weights), scores)
    np.testing.assert_array_equal(mine[0], plain[0])
    np.testing.assert_allclose(mine[1], plain[1], atol=1e-6)


def test_large_and_small_ratios():
    scores, weights, groups = draw(5, 6, 8)
    plain = losses.sampled_softmax(scores, weights=weights)

    def of(ratio, rewards=weights):
        return bilateral_softmax(
            scores, tf.constant(groups), positive_temperature=ratio, weights=rewards
        )

    np.testing.assert_allclose(of(1e4), plain, rtol=2e-3)
    # Towards 0 each user's best positive stands for all of them.
    own, best = np.diag(scores), np.zeros(6)
    for i, group in enumerate(groups):
        best[i] = max(own[groups == group])
    best_only = losses.sampled_softmax(scores) - np.mean(best - own)
    np.testing.assert_allclose(of(1e-4, None), best_only, rtol=1e-3)


def test_the_worse_positive_of_a_user_pulls_less():
    scores = tf.constant([[4.0, 0.0], [0.0, -4.0]])

    def slopes(groups, ratio):
        loss = lambda s: bilateral_softmax(s, groups, positive_temperature=ratio)  # noqa: E731
        terms = value_and_gradient(loss, scores)[1]
        plain = value_and_gradient(losses.sampled_softmax, scores)[1]
        return np.diag(terms - plain)

    # In a group the pull 1 + 1 is shared by the softmax of s/ratio: e^(4-(-4))/2 = e^4 : 1.
    share = 1 / (1 + math.exp(4))
    np.testing.assert_allclose(
        slopes(tf.constant([1, 1]), 2.0), [-(1 - 2 * share) / 2, (1 - 2 * share) / 2], rtol=1e-5
    )


@BOTH
@pytest.mark.parametrize("ratio", [0.01, 1.0, 100.0])
def test_bilateral_extreme_logits(run, ratio):
    scores = tf.constant([[1e30, 0.0, MASKED], [0.0, -1e30, 1e30], [MASKED, 0.0, 0.0]])
    groups, weights = tf.constant([1, 1, 1]), tf.constant([0.0, 1.0, 1.0])
    for rewards in (None, weights, tf.zeros([3])):
        of = run(
            lambda s, rewards=rewards: value_and_gradient(
                lambda x: bilateral_softmax(x, groups, positive_temperature=ratio, weights=rewards),
                s,
            )
        )
        value, gradient = of(scores)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal([gradient[0, 2], gradient[2, 0]], [0.0, 0.0])


def test_bilateral_weight_zero_is_no_positive_of_its_user():
    # Row 0, better by far, has no reward: row 1 is alone. Half of ln 2, since B = 2.
    scores = tf.constant([[90.0, 0.0], [0.0, 0.0]])
    terms = bilateral_softmax(
        scores,
        tf.constant([4, 4]),
        positive_temperature=1.5,
        weights=tf.constant([0.0, 1.0]),
        reduction="none",
    )
    np.testing.assert_allclose(terms, [0.0, math.log(2)], rtol=1e-6)
    empty = bilateral_softmax(tf.zeros([0, 2]), tf.zeros([0], tf.int32), positive_temperature=1.0)
    np.testing.assert_array_equal(empty, 0.0)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_bilateral_refuses(temperature):
    with pytest.raises(ValueError, match="positive_temperature: expected a number above 0"):
        bilateral_softmax(tf.zeros([2, 2]), tf.constant([0, 1]), positive_temperature=temperature)


def logistic_reference(scores, weights, negatives_weight):
    scores = np.asarray(scores, np.float64)
    total = 0.0
    for i, row in enumerate(scores):
        negatives = [s for d, s in enumerate(row) if d != i and s != MASKED]
        loss = math.log1p(math.exp(-row[i]))
        if negatives:
            loss += negatives_weight * np.mean([math.log1p(math.exp(s)) for s in negatives])
        total += weights[i] * loss
    return total / len(scores)


@BOTH
def test_binary_cross_entropy_by_hand(run):
    # Row 0: positive ln 3: ln(1 + 1/3) = ln(4/3); negatives 0 and ln 2: (ln 2 + ln 3)/2, weight 2;
    # the masked one counts for nothing. Rewarded with 5.
    scores = tf.constant([[math.log(3), 0.0, MASKED, math.log(2)]])
    loss = run(lambda s: binary_cross_entropy(s, tf.constant([5.0]), negatives_weight=2.0))
    np.testing.assert_allclose(loss(scores), 5 * (math.log(4 / 3) + math.log(6)), rtol=1e-6)


@quick
@given(seed=seeds, num_rows=st.integers(1, 6), further=st.integers(0, 4))
def test_binary_cross_entropy_against_the_reference(seed, num_rows, further):
    scores, weights, _ = draw(seed, num_rows, num_rows + further)
    mask = np.random.default_rng(seed).random(scores.shape) < 0.4
    np.fill_diagonal(mask, False)
    scores = masks.apply_mask(scores, tf.constant(mask))
    value, gradient = value_and_gradient(
        lambda s: binary_cross_entropy(s, weights, negatives_weight=0.5), scores
    )
    expected = logistic_reference(scores, weights.numpy(), 0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(gradient.numpy()[mask], np.zeros(mask.sum()))


def test_binary_cross_entropy_gradient_is_that_of_tensorflow():
    scores, weights, _ = draw(6, 4, 7)
    mine = value_and_gradient(
        lambda s: binary_cross_entropy(s, weights, negatives_weight=3.0), scores
    )
    labels = tf.eye(4, 7)
    shares = weights[:, tf.newaxis] / 4 * tf.where(labels > 0, 1.0, 3.0 / 6)

    def theirs(scores):
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels, scores)
        return tf.reduce_sum(terms * shares)

    expected = value_and_gradient(theirs, scores)
    np.testing.assert_allclose(mine[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(mine[1], expected[1], atol=1e-7)


@BOTH
def test_binary_cross_entropy_extremes(run):
    of = run(lambda s: value_and_gradient(lambda x: binary_cross_entropy(x, reduction="none"), s))
    scores = tf.constant([[1e30, -1e30, 0.0], [1e30, -1e30, MASKED], [MASKED, MASKED, 0.0]])
    value, gradient = of(scores)
    # 0 + (0 + ln 2)/2;  1e30 + 1e30;  ln 2 with no negatives.
    np.testing.assert_allclose(value, [math.log(2) / 2, 2e30, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0, 0.25], [1, -1, 0], [0, 0, -0.5]], atol=1e-7)
    np.testing.assert_array_equal(binary_cross_entropy(tf.zeros([0, 2])), 0.0)


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_binary_cross_entropy_of_halves(half):
    scores = masks.apply_mask(tf.zeros([1, 4], half), tf.range(4) > 1)
    value = binary_cross_entropy(scores)
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, 2 * math.log(2), rtol=1e-6)


def test_binary_cross_entropy_refuses():
    with pytest.raises(ValueError, match=r"at least as many candidates as rows, received \(3, 2\)"):
        binary_cross_entropy(tf.zeros([3, 2]))
    with pytest.raises(ValueError, match="expected 'mean' or 'none', received 'sum'"):
        binary_cross_entropy(tf.zeros([2, 2]), reduction="sum")
