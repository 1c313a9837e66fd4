"""Hard negatives and known positives against sorting and sets in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH, MASKED
from trainer.base.keras2 import tf
from trainer.functional import losses, masks, mining

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def hardest(scores, n):
    """Which columns stay: the positive, and all that reach the n-th highest other score."""
    kept = np.zeros(scores.shape, bool)
    for i, row in enumerate(scores):
        others = sorted(np.delete(row, i), reverse=True)
        if n:
            kept[i] = row >= others[min(n, len(others)) - 1] if others else True
        kept[i, i] = True
    return kept


@BOTH
def test_keep_hardest_by_hand(run):
    # Row 0: 3 and 2 are the hardest two beside the positive -9. Row 1: the positive 9 takes no
    # place, 1 is first, and both 0 tie for the second.
    scores = tf.constant([[-9.0, 1.0, 3.0, 2.0], [0.0, 9.0, 1.0, 0.0]])
    kept = run(lambda s: mining.keep_hardest(s, 2))(scores)
    np.testing.assert_array_equal(kept, [[-9.0, MASKED, 3.0, 2.0], [0.0, 9.0, 1.0, 0.0]])


@quick
@given(
    seed=seeds,
    num_rows=st.integers(1, 5),
    further=st.integers(0, 400),
    n=st.integers(0, 90),
    ties=st.booleans(),
)
def test_keep_hardest_against_sorting(seed, num_rows, further, n, ties):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=[num_rows, num_rows + further]).astype(np.float32) * 5
    if ties:
        scores = np.round(scores / 4)
    hidden = generator.random(scores.shape) < generator.choice([0, 0.5, 0.99])
    np.fill_diagonal(hidden, False)
    scores[hidden] = MASKED
    any_shape = tf.function(
        lambda s: mining.keep_hardest(s, n), input_signature=[tf.TensorSpec([None, None])]
    )
    expected = np.where(hardest(scores, n), scores, np.float32(MASKED))
    np.testing.assert_array_equal(any_shape(tf.constant(scores)), expected)
    np.testing.assert_array_equal(mining.keep_hardest(tf.constant(scores), n), expected)


@BOTH
def test_gradient_only_where_kept(run):
    scores = tf.random.stateless_normal([8, 300], [1, 2]) * 10

    def gradient(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            loss = losses.sampled_softmax(mining.keep_hardest(scores, 5))
        return tape.gradient(loss, scores)

    slopes, kept = run(gradient)(scores).numpy(), hardest(scores.numpy(), 5)
    np.testing.assert_array_equal(slopes[~kept], np.zeros((~kept).sum()))
    np.testing.assert_array_equal(kept.sum(axis=1), np.full(8, 6))


@BOTH
def test_all_columns_make_it_the_identity(run):
    scores = tf.random.stateless_normal([3, 6], [1, 2])
    for n in (5, 6, 1000):
        np.testing.assert_array_equal(run(lambda s, n=n: mining.keep_hardest(s, n))(scores), scores)


@BOTH
@pytest.mark.parametrize("row", [[0.0, 1e30, -1e30], [1e30, -np.inf, 0.0], [MASKED] * 3])
def test_extreme_logits(run, row):
    kept = run(lambda s: mining.keep_hardest(s, 1))(tf.constant([row]))
    assert np.isfinite(losses.sampled_softmax(kept))
    np.testing.assert_array_equal(kept[0, 0], np.float32(row[0]))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_keep_hardest_of_other_types(dtype):
    scores = masks.apply_mask(tf.cast(tf.range(200)[tf.newaxis], dtype), tf.range(200) % 2 == 1)
    kept = mining.keep_hardest(scores, 3)
    assert kept.dtype == dtype
    masked = masks.apply_mask(scores, tf.ones_like(scores, tf.bool))
    # Of the even ones 194, 196 and 198 are the highest.
    np.testing.assert_array_equal(
        np.flatnonzero(tf.cast(kept != masked, tf.int32)), [0, 194, 196, 198]
    )


def test_keep_hardest_refuses():
    with pytest.raises(ValueError, match="n: expected a number of negatives >= 0, received -1"):
        mining.keep_hardest(tf.zeros([2, 2]), -1)


@BOTH
def test_known_positives_by_hand(run):
    # User 0 knows items 5 and 7, user 1 none, user 2 item 9. Row 0's own positive, 7 in column 0,
    # stays; the same item in column 3 goes.
    mask = run(mining.known_positive_mask)(
        tf.constant([5, 7, 9]),
        tf.constant([0, 2, 2, 3], tf.int64),
        tf.constant([0, 1, 2, 0]),
        tf.constant([7, 5, 9, 7, 5, 9]),
    )
    expected = [
        [0, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 1, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(mask, np.array(expected, bool))


of_any_shape = tf.function(
    mining.known_positive_mask,
    input_signature=[
        tf.TensorSpec([None], tf.int64 if name == "splits" else tf.int32)
        for name in ("items", "splits", "users", "candidates")
    ],
)


def known(items, splits, users, candidates):
    mask = np.array([np.isin(candidates, items[splits[u] : splits[u + 1]]) for u in users])
    rows = np.arange(len(users))
    mask[rows, rows] = False
    return mask


@quick
@given(
    seed=seeds,
    num_rows=st.integers(1, 40),
    further=st.integers(0, 60),
    num_items=st.sampled_from([3, 60, 200_000, 100_000_000]),
)
def test_known_positives_against_sets(seed, num_rows, further, num_items):
    generator = np.random.default_rng(seed)
    pool = generator.integers(0, num_items, 60)
    # Pairs that share a bucket of the table, one of each a candidate, or both.
    pool = np.concatenate([pool, pool ^ 65_536 if num_items > 65_536 else pool])
    splits = np.concatenate([[0], np.cumsum(generator.integers(0, 40, 12))])
    items = generator.choice(pool, splits[-1])
    users = generator.integers(0, 12, num_rows)
    candidates = generator.choice(pool, num_rows + further)
    arguments = (
        tf.constant(items, tf.int32),
        tf.constant(splits, tf.int64),
        tf.constant(users, tf.int32),
        tf.constant(candidates, tf.int32),
    )
    expected = known(items, splits, users, candidates)
    np.testing.assert_array_equal(mining.known_positive_mask(*arguments), expected)
    np.testing.assert_array_equal(of_any_shape(*arguments), expected)


def test_known_positives_at_full_size():
    generator = np.random.default_rng(3)
    splits = np.concatenate([[0], np.cumsum(generator.poisson(500, 1_500))])
    items = generator.integers(0, 20_000, splits[-1])
    users, candidates = generator.integers(0, 1_500, 1024), generator.integers(0, 20_000, 2048)
    mask = mining.known_positive_mask(
        tf.constant(items, tf.int32),
        tf.constant(splits),
        tf.constant(users, tf.int32),
        tf.constant(candidates, tf.int32),
    )
    np.testing.assert_array_equal(mask, known(items, splits, users, candidates))


@BOTH
def test_an_empty_history_and_an_empty_log(run):
    mask = run(mining.known_positive_mask)(
        tf.zeros([0], tf.int32),
        tf.constant([0, 0], tf.int64),
        tf.constant([0, 0]),
        tf.constant([1, 2, 3]),
    )
    np.testing.assert_array_equal(mask, np.zeros([2, 3], bool))
