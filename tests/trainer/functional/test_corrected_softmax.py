"""The corrected form against hand-worked values, a NumPy reference and the full softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH, MASKED, value_and_gradient
from trainer.base.keras2 import tf
from trainer.functional import logq, losses, masks
from trainer.functional.corrected_softmax import corrected_softmax


def reference(scores, log_q, weights=None):
    """Value and the paper's gradient in float64: stop_gradient(1 - P) (log Z - s_ii), by the row.

    Candidates are masked at the constant of this file, not at the one under test.
    """
    scores, q = np.asarray(scores, np.float64), np.exp(np.asarray(log_q, np.float64))
    num_rows, num_columns = scores.shape
    weights = np.ones(num_rows) if weights is None else np.asarray(weights, np.float64)
    value, gradient = 0.0, np.zeros_like(scores)
    for i, row in enumerate(scores):
        drawn = [d for d in range(num_columns) if d != i and row[d] != MASKED]
        if not drawn:
            continue
        mass = {d: math.exp(row[d]) / (len(drawn) * q[d] / (1 - q[i])) for d in drawn}
        z = sum(mass.values())
        p = math.exp(row[i]) / (math.exp(row[i]) + z)
        value -= weights[i] * math.log(p) / num_rows
        for d in drawn:
            gradient[i, d] = weights[i] / num_rows * (1 - p) * mass[d] / z
        gradient[i, i] = -weights[i] / num_rows * (1 - p)
    return value, gradient


def draw(seed, num_rows, num_columns, scale=3.0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=[num_rows, num_columns]) * scale
    log_q = np.log(generator.dirichlet(np.ones(num_columns + 1))[:num_columns] + 1e-9)
    weights = generator.uniform(0, 3, num_rows)
    return (tf.constant(x, tf.float32) for x in (scores, log_q, weights))


@BOTH
def test_by_hand(run):
    # Q = 1/2, 1/4, 1/4; the positive is column 0, so both Q' = (1/4) / (1 - 1/2) = 1/2, and n = 2:
    # Z = 3/(2/2) + 1/(2/2) = 4, P = 2/(2 + 4) = 1/3, loss ln 3. Slopes: -(1 - 1/3) at the positive,
    # 2/3 * 3/4 and 2/3 * 1/4 at the negatives.
    scores = tf.constant([[math.log(2), math.log(3), 0.0]])
    log_q = tf.math.log(tf.constant([0.5, 0.25, 0.25]))
    of = run(lambda s: value_and_gradient(lambda x: corrected_softmax(x, log_q), s))
    value, gradient = of(scores)
    np.testing.assert_allclose(value, math.log(3), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-2 / 3, 1 / 2, 1 / 6]], rtol=1e-6)


@BOTH
def test_masked_draws_do_not_count_by_hand(run):
    # As above without the last column: n = 1, Q' = 1/2: Z = 3/(1/2) = 6, P = 2/8, loss ln 4.
    scores = tf.constant([[math.log(2), math.log(3), MASKED]])
    log_q = tf.math.log(tf.constant([0.5, 0.25, 0.25]))
    of = run(lambda s: value_and_gradient(lambda x: corrected_softmax(x, log_q), s))
    value, gradient = of(scores)
    np.testing.assert_allclose(value, math.log(4), rtol=1e-6)
    np.testing.assert_array_equal(gradient[0, 2], 0.0)


@BOTH
def test_known_draws_count_and_add_nothing_by_hand(run):
    # As in the first test, with the last column drawn but known to be wanted: n stays 2, so
    # Z = 3/(2/2) = 3, P = 2/5. Slopes -(1 - 2/5) and 3/5 at the one negative.
    scores = tf.constant([[math.log(2), math.log(3), MASKED]])
    log_q = tf.math.log(tf.constant([0.5, 0.25, 0.25]))
    of = run(
        lambda s: value_and_gradient(
            lambda x: corrected_softmax(x, log_q, num_draws=tf.constant([2.0])), s
        )
    )
    value, gradient = of(scores)
    np.testing.assert_allclose(value, math.log(5 / 2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-3 / 5, 3 / 5, 0]], rtol=1e-6)


@BOTH
def test_what_is_there_for_certain_adds_itself_by_hand(run):
    # As in the first test, Z = 4, beside an item of score ln 2 that was not drawn: Z = 6,
    # P = 2/8. Slopes: 3/4 of 3/6, 1/6 and 2/6; a masked one adds nothing.
    scores = tf.constant([[math.log(2), math.log(3), 0.0]])
    certain = tf.constant([[math.log(2), MASKED]])
    log_q = tf.math.log(tf.constant([0.5, 0.25, 0.25]))

    def of(scores, certain):
        with tf.GradientTape() as tape:
            tape.watch([scores, certain])
            loss = corrected_softmax(scores, log_q, certain=certain)
        return loss, *tape.gradient(loss, [scores, certain])

    value, of_scores, of_certain = run(of)(scores, certain)
    np.testing.assert_allclose(value, math.log(4), rtol=1e-6)
    np.testing.assert_allclose(of_scores, [[-3 / 4, 3 / 8, 1 / 8]], rtol=1e-6)
    np.testing.assert_allclose(of_certain, [[1 / 4, 0]], rtol=1e-6)


def test_the_estimate_of_the_mass_is_free_of_bias_with_known_items_removed():
    # 8 items, Q ~ 1/rank, item 3 the positive, items 0 and 1 (0.55 of Q) known: 60 draws, 4,000
    # times. Z is read off the loss: -log P = log(1 + Z / exp(s)).
    generator = np.random.default_rng(3)
    q = 1 / np.arange(1, 9)
    q /= q.sum()
    logits = generator.normal(size=8).astype(np.float32)
    ids = np.insert(generator.choice(8, [4_000, 60], p=q), 0, 3, axis=1)
    hits, known = ids == 3, ids < 2
    hits[:, 0] = False
    masked = np.where(hits | known, MASKED, logits[ids]).astype(np.float32)

    log_q = np.log(q[ids]).astype(np.float32)

    def mass(num_draws):
        of_one = lambda one: corrected_softmax(  # noqa: E731
            one[0][None], one[1], num_draws=one[2][None]
        )
        draws = (masked, log_q, num_draws.astype(np.float32))
        losses = tf.function(lambda x: tf.map_fn(of_one, x, fn_output_signature=tf.float32))(draws)
        return np.expm1(losses.numpy().astype(np.float64)) * math.exp(logits[3])

    expected = np.exp(logits)[[2, 4, 5, 6, 7]].sum()
    estimates = mass(60.0 - hits.sum(axis=1))
    error = estimates.std() / math.sqrt(len(estimates))
    assert error < 0.01 * expected
    assert abs(estimates.mean() - expected) < 3 * error
    # Of the unmasked draws alone, as it was: too large by (1 - Q_3) / (1 - Q_3 - Q_0 - Q_1).
    too_large = mass(60.0 - (hits | known).sum(axis=1))
    factor = (1 - q[3]) / (1 - q[3] - q[0] - q[1])
    np.testing.assert_allclose(too_large.mean() / expected, factor, rtol=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), num_rows=st.integers(1, 6), further=st.integers(0, 4))
def test_against_the_reference(seed, num_rows, further):
    scores, log_q, weights = draw(seed, num_rows, num_rows + further)
    mask = np.random.default_rng(seed).random(scores.shape) < 0.3
    np.fill_diagonal(mask, False)
    scores = masks.apply_mask(scores, tf.constant(mask))
    value, gradient = value_and_gradient(lambda s: corrected_softmax(s, log_q, weights), scores)
    expected = reference(scores, log_q, weights)
    np.testing.assert_allclose(value, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(gradient.numpy()[mask], np.zeros(mask.sum()))


def test_terms_and_their_mean():
    scores, log_q, weights = draw(1, 4, 6)
    terms = corrected_softmax(scores, log_q, weights, reduction="none")
    assert terms.shape == [4]
    np.testing.assert_allclose(
        tf.reduce_mean(terms), corrected_softmax(scores, log_q, weights), rtol=1e-6
    )


def test_the_whole_corpus_gives_the_full_softmax():
    # Uniform Q over 7 items: Q' = (1/7) / (6/7) = 1/6 and n = 6, so n Q' = 1 for every negative.
    scores, _, weights = draw(2, 4, 7)
    log_q = tf.fill([7], -math.log(7))
    full = value_and_gradient(lambda s: losses.sampled_softmax(s, weights=weights), scores)
    corrected = value_and_gradient(lambda s: corrected_softmax(s, log_q, weights), scores)
    standard = value_and_gradient(
        lambda s: losses.sampled_softmax(logq.correct(s, log_q), weights=weights), scores
    )
    for mine in (corrected, standard):
        np.testing.assert_allclose(mine[0], full[0], rtol=1e-5)
        np.testing.assert_allclose(mine[1], full[1], atol=1e-6)


def test_the_gradient_is_less_biased_than_with_standard_logq():
    # 20 items with Q ~ 1/rank, each once the positive, against 100 draws, 2,000 times. Length of
    # the bias of a row's gradient, root mean square over the 20 positives, and of the most popular
    # one: 0.282 and 0.216 uncorrected, 0.035 and 0.051 standard, 0.015 and 0.006 corrected, of which
    # about 0.004 is noise. With more draws that of the standard form stays, the corrected one's goes.
    num_items, num_draws = 20, 100
    generator = np.random.default_rng(7)
    q = 1 / np.arange(1, num_items + 1)
    q /= q.sum()
    log_q = tf.constant(np.log(q), tf.float32)
    logits = tf.constant(generator.normal(size=[num_items, num_items]), tf.float32)
    draws = generator.choice(num_items, [2_000, num_draws], p=q)
    ids = tf.constant(np.insert(draws, [0] * num_items, range(num_items), axis=1), tf.int32)
    drawn = tf.range(num_items + num_draws) >= num_items
    drawn_or_own = drawn | tf.cast(tf.eye(num_items, num_items + num_draws), tf.bool)

    def bias(loss):
        def of(columns):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                hits = masks.accidental_hits(columns[:num_items], columns)
                scores = tf.gather(logits, columns, axis=1)
                scores = masks.apply_mask(scores, hits | ~drawn_or_own)
                value = num_items * loss(scores, tf.gather(log_q, columns))
            return tf.convert_to_tensor(tape.gradient(value, logits))

        gradients = tf.function(lambda x: tf.map_fn(of, x, fn_output_signature=tf.float32))(ids)
        full = tf.nn.softmax(logits) - tf.eye(num_items)
        lengths = tf.norm(tf.reduce_mean(gradients, axis=0) - full, axis=1).numpy()
        return np.array([np.sqrt(np.mean(lengths**2)), lengths[0]])

    uncorrected = bias(lambda scores, _: losses.sampled_softmax(scores))
    standard = bias(lambda scores, log_q: losses.sampled_softmax(logq.correct(scores, log_q)))
    corrected = bias(corrected_softmax)
    assert (standard < 0.5 * uncorrected).all()
    assert (corrected < np.array([0.6, 0.4]) * standard).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), log_p=st.floats(-28, -0.7))
def test_uniform_q_weighs_no_negative_over_another(seed, log_p):
    scores, _, _ = draw(seed, 3, 5)
    _, gradient = value_and_gradient(
        lambda s: corrected_softmax(s, tf.fill([5], tf.constant(log_p, tf.float32))), scores
    )
    for i, slopes in enumerate(gradient.numpy()):
        others = np.delete(scores.numpy()[i], i)
        shares = np.exp(others - others.max())
        np.testing.assert_allclose(
            np.delete(slopes, i), -slopes[i] * shares / shares.sum(), rtol=1e-3, atol=1e-6
        )


@BOTH
def test_rows_without_negatives(run):
    of = run(
        lambda s, log_q: value_and_gradient(
            lambda x: corrected_softmax(x, log_q, reduction="none"), s
        )
    )
    value, gradient = of(tf.constant([[3.0]]), tf.constant([-1.0]))
    np.testing.assert_array_equal(value, [0.0])
    np.testing.assert_array_equal(gradient, [[0.0]])
    scores = tf.constant([[5.0, MASKED, MASKED], [0.0, 0.0, 0.0]])
    value, gradient = of(scores, tf.constant([-1.0, -1.0, -1.0]))
    np.testing.assert_array_equal(value[0], 0.0)
    np.testing.assert_array_equal(gradient[0], np.zeros(3))
    assert value[1] > 0
    np.testing.assert_array_equal(corrected_softmax(tf.zeros([0, 2]), tf.zeros([2]) - 1), 0.0)


@BOTH
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([1e30, -1e30, 0.0], 0.0),
        ([0.0, 1e30, 0.0], 1e30),
        ([0.0, -np.inf, -np.inf], 0.0),
        ([MASKED, MASKED, MASKED], 0.0),
        # Ties: here log Q = ln 3 is lost in the rounding, so Z is 2/3 and not 2.
        ([-1e30, -1e30, -1e30], math.log(5 / 3)),
        ([1e30, 1e30, MASKED], math.log(5 / 3)),
    ],
)
def test_extreme_logits(run, row, expected):
    log_q = tf.fill([3], -math.log(3))  # Q' = 1/2
    of = run(lambda s: value_and_gradient(lambda x: corrected_softmax(x, log_q), s))
    value, gradient = of(tf.constant([row]))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(np.sum(gradient), 0.0, atol=1e-6)


def test_a_rare_and_a_dominant_item_give_no_nan():
    # Q = 1e-12 and 1 - 1e-6: 1 - Q is computed without cancelling.
    log_q = tf.constant([math.log(1e-12), math.log1p(-1e-6)])
    value, gradient = value_and_gradient(lambda s: corrected_softmax(s, log_q), tf.zeros([2, 2]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_half_precision_is_summed_in_float32(half):
    scores = masks.apply_mask(tf.zeros([1, 2049], half), tf.range(2049) > 1024)
    value = corrected_softmax(scores, tf.fill([2049], -math.log(2049)))
    assert value.dtype == tf.float32
    # 1,024 negatives that stand for 2,048: P = 1/2049.
    np.testing.assert_allclose(value, math.log(2049), rtol=1e-6)


def test_float64():
    scores, log_q, weights = (tf.cast(x, tf.float64) for x in draw(5, 3, 5))
    value = corrected_softmax(scores, log_q, weights)
    assert value.dtype == tf.float64
    np.testing.assert_allclose(value, reference(scores, log_q, weights)[0], rtol=1e-12)


def test_refuses():
    with pytest.raises(ValueError, match="expected 'mean' or 'none', received 'sum'"):
        corrected_softmax(tf.zeros([2, 2]), tf.zeros([2]) - 1, reduction="sum")
    with pytest.raises(ValueError, match=r"at least as many candidates as rows, received \(3, 2\)"):
        corrected_softmax(tf.zeros([3, 2]), tf.zeros([2]) - 1)
    with pytest.raises(ValueError, match=r"one value per candidate \[C\]"):
        corrected_softmax(tf.zeros([2, 2]), tf.zeros([3]) - 1)
    with pytest.raises(ValueError, match="probabilities below 1, received 2 of 2"):
        corrected_softmax(tf.zeros([2, 2]), tf.zeros([2]))
