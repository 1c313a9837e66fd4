"""Masked candidates carry no softmax mass; feature masks keep what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH
from trainer.base.keras2 import tf
from trainer.functional import losses, masks

quick = settings(max_examples=25, deadline=None)

# Features 0 and 1 go together, and 2 and 3 do; the diagonal is larger than anything else.
MI = [
    [9.0, 0.8, 0.1, 0.3],
    [0.8, 9.0, 0.2, 0.1],
    [0.1, 0.2, 9.0, 0.7],
    [0.3, 0.1, 0.7, 9.0],
]
# floor(4/2) = 2 most related: seed 0 -> 1 (0.8), 3 (0.3); seed 1 -> 0 (0.8), 2 (0.2);
# seed 2 -> 3 (0.7), 1 (0.2); seed 3 -> 2 (0.7), 0 (0.3).
TABLE = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]], bool)


def reference_hits(item_ids, candidate_ids, positives):
    return [
        [candidate == item and column != positive for column, candidate in enumerate(candidate_ids)]
        for item, positive in zip(item_ids, positives, strict=True)
    ]


@BOTH
def test_accidental_hits_by_hand(run):
    # Item 7 is the positive of rows 0 and 2 and once more an extra negative in column 3.
    ids = tf.constant([7, 5, 7, 7])
    expected = [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1]]
    np.testing.assert_array_equal(
        run(masks.accidental_hits)(ids[:3], ids), np.array(expected, bool)
    )


@quick
@given(st.data())
def test_accidental_hits_against_the_reference(data):
    candidates = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=7))
    columns = st.integers(0, len(candidates) - 1)
    positives = data.draw(st.lists(columns, min_size=1, max_size=6))
    items = [candidates[column] for column in positives]
    mask = masks.accidental_hits(
        tf.constant(items, tf.int64), tf.constant(candidates, tf.int64), tf.constant(positives)
    )
    np.testing.assert_array_equal(mask, reference_hits(items, candidates, positives))


@quick
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=7),
    st.sampled_from([1.0, 1e3, 1e30]),
    st.integers(0, 2**31 - 1),
)
def test_accidental_hits_carry_no_softmax_mass(ids, scale, seed):
    scores = tf.random.stateless_normal([len(ids), len(ids)], [seed, 0]) * scale
    mask = masks.accidental_hits(tf.constant(ids), tf.constant(ids))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        masked = masks.apply_mask(scores, mask)
        loss = losses.sampled_softmax(masked)
    # Exactly zero: the constant under test is not known here, a "small enough" one fails at 1e30.
    mass = tf.nn.softmax(masked).numpy()[mask.numpy()]
    np.testing.assert_array_equal(mass, np.zeros_like(mass))
    np.testing.assert_array_equal(tape.gradient(loss, scores).numpy()[mask.numpy()], mass)
    kept = ~mask.numpy()
    np.testing.assert_array_equal(masked.numpy()[kept], scores.numpy()[kept])


@BOTH
def test_apply_mask_leaves_only_the_positive(run):
    # Everything but the positive masked: P = 1, so the loss is 0 however bad the positive is.
    scores = tf.constant([[-1e30, 1e30, 5.0]])
    masked = run(masks.apply_mask)(scores, tf.constant([[False, True, True]]))
    np.testing.assert_array_equal(losses.sampled_softmax(masked), 0.0)


@BOTH
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.float16, tf.bfloat16])
def test_apply_mask_everywhere_stays_finite(run, dtype):
    masked = run(masks.apply_mask)(tf.cast([[3.0, 4.0]], dtype), tf.constant([[True, True]]))
    assert masked.dtype == dtype
    assert np.isfinite(tf.cast(masked - tf.cast(100.0, dtype), tf.float64)).all()
    np.testing.assert_allclose(
        tf.cast(losses.sampled_softmax(masked), tf.float64), math.log(2), rtol=1e-6
    )


def test_apply_mask_broadcasts_over_rows():
    masked = masks.apply_mask(tf.ones([2, 2]), tf.constant([False, True]))
    np.testing.assert_array_equal(tf.nn.softmax(masked), [[1.0, 0.0], [1.0, 0.0]])


@BOTH
def test_random_mask_has_its_rate_and_repeats(run):
    mask = run(lambda seed: masks.random_mask(20_000, 3, 0.3, seed))(tf.constant([1, 2])).numpy()
    # The standard error of a share of 0.3 in 20,000 is 0.0032; columns are masked independently.
    np.testing.assert_allclose(mask.mean(axis=0), np.full(3, 0.3), atol=0.015)
    np.testing.assert_allclose((mask[:, 0] & mask[:, 1]).mean(), 0.09, atol=0.01)
    np.testing.assert_array_equal(mask, masks.random_mask(20_000, 3, 0.3, [1, 2]))
    assert (mask != masks.random_mask(20_000, 3, 0.3, [1, 3]).numpy()).any()


@pytest.mark.parametrize(("rate", "masked"), [(0.0, False), (1.0, True)])
def test_random_mask_extremes(rate, masked):
    assert (masks.random_mask(50, 4, rate, [0, 0]).numpy() == masked).all()


@pytest.mark.parametrize("per_item", [False, True])
@pytest.mark.parametrize("num_features", [2, 3, 6])
def test_complementary_masks_split_the_features(num_features, per_item):
    for step in range(5):
        first, second = masks.complementary_masks(7, num_features, [3, step], per_item=per_item)
        np.testing.assert_array_equal(second, ~first.numpy())
        np.testing.assert_array_equal(first.numpy().sum(axis=1), np.full(7, num_features // 2))
        if not per_item:
            assert (first.numpy() == first.numpy()[0]).all()


@BOTH
def test_complementary_masks_mask_each_feature_equally_often(run):
    splits = run(lambda seed: masks.complementary_masks(20_000, 4, seed, per_item=True))([5, 6])
    np.testing.assert_allclose(splits[0].numpy().mean(axis=0), np.full(4, 0.5), atol=0.02)
    # 4 features have C(4, 2) = 6 halves.
    assert len(np.unique(splits[0], axis=0)) == 6


def test_correlated_mask_table_by_hand():
    np.testing.assert_array_equal(masks.correlated_mask_table(MI), TABLE)


def test_correlated_mask_table_leaves_its_argument_alone_and_breaks_ties_in_order():
    mi = np.ones([3, 3])
    # floor(3/2) = 1 most related, all alike: the first other feature.
    expected = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1]], bool)
    np.testing.assert_array_equal(masks.correlated_mask_table(mi), expected)
    np.testing.assert_array_equal(mi, np.ones([3, 3]))


def test_correlated_mask_table_of_two_features_masks_only_the_seed():
    # 1 + floor(2/2) would be both, and view 1 would show nothing.
    np.testing.assert_array_equal(
        masks.correlated_mask_table(np.ones([2, 2])), np.eye(2, dtype=bool)
    )


@quick
@given(st.integers(2, 9), st.integers(0, 2**31 - 1))
def test_correlated_mask_table_against_a_loop(k, seed):
    mi = np.random.default_rng(seed).uniform(size=[k, k])
    table = masks.correlated_mask_table(mi)
    for feature in range(k):
        others = sorted((f for f in range(k) if f != feature), key=lambda f: -mi[feature, f])
        expected = {feature, *others[: min(k // 2, k - 2)]}
        assert set(np.flatnonzero(table[feature])) == expected


@pytest.mark.parametrize(
    ("mi", "message"),
    [
        ([[1.0, 2.0]], r"expected \[k, k\], received shape \(1, 2\)"),
        ([[1.0, float("nan")], [0.0, 1.0]], "expected finite numbers"),
        ([[1.0]], "expected at least 2 features .* received 1"),
    ],
)
def test_correlated_mask_table_refuses(mi, message):
    with pytest.raises(ValueError, match=message):
        masks.correlated_mask_table(mi)


@BOTH
@pytest.mark.parametrize("per_item", [False, True])
def test_correlated_masks_are_rows_of_the_table(run, per_item):
    draw = run(lambda seed: masks.correlated_masks(TABLE, 40, seed, per_item=per_item))
    rows = {tuple(row) for row in TABLE}
    seen = set()
    for step in range(20):
        first, second = draw(tf.constant([0, step]))
        np.testing.assert_array_equal(second, ~first.numpy())
        drawn = {tuple(row) for row in first.numpy()}
        assert drawn <= rows
        assert per_item or len(drawn) == 1
        seen |= drawn
    assert seen == rows


@BOTH
def test_value_dropout_drops_single_values(run):
    values = np.tile(np.array([[3, 1, 0, 2]], np.int64), [5_000, 1])
    dropped = run(lambda seed: masks.value_dropout(tf.constant(values), 0.25, seed))([7, 8]).numpy()
    assert dropped.dtype == np.int64
    assert ((dropped == values) | (dropped == 0)).all()
    # The standard error of 0.25 in 5,000 is 0.006. The third column is padding all along.
    np.testing.assert_allclose((dropped == 0).mean(axis=0), [0.25, 0.25, 1, 0.25], atol=0.03)
    np.testing.assert_array_equal(dropped, masks.value_dropout(tf.constant(values), 0.25, [7, 8]))


@BOTH
def test_mask_values_by_hand(run):
    masked = tf.constant([True, False])
    blank = run(masks.mask_values)
    np.testing.assert_array_equal(blank(tf.constant([4, 5]), masked), [0, 5])
    np.testing.assert_array_equal(blank(tf.constant([1.5, 2.5]), masked), [0.0, 2.5])
    np.testing.assert_array_equal(blank(tf.constant([[1, 2], [3, 4]]), masked), [[0, 0], [3, 4]])


@BOTH
def test_unknown_values_draw_evenly_among_the_rows_of_unknown_keys(run):
    values = tf.constant(np.tile(np.array([[3, 7, 0]], np.int32), [40_000, 1]))

    def of(or_missing):
        return run(
            lambda seed: masks.unknown_values(
                values, 0.3, seed, first=10, count=2, or_missing=or_missing
            )
        )(tf.constant([4, 5])).numpy()

    # Standard error of a share of 0.15 in 40,000: 0.0018.
    read = of(False)
    np.testing.assert_array_equal(read[:, 2], 0)  # padding stays
    for column, own in ((0, 3), (1, 7)):
        shares = [(read[:, column] == row).mean() for row in (own, 10, 11, 0)]
        np.testing.assert_allclose(shares, [0.7, 0.15, 0.15, 0], atol=0.008)
    read = of(True)
    shares = [(read[:, 0] == row).mean() for row in (3, 10, 11, 0)]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.1, 0.1], atol=0.008)
    # Values are drawn each on its own: both of a row in 0.09 of the rows.
    np.testing.assert_allclose(((read[:, 0] != 3) & (read[:, 1] != 7)).mean(), 0.09, atol=0.008)
    assert masks.unknown_values(values, 0.0, [4, 5], first=10, count=2) is values


def test_complementary_masks_refuses_a_single_feature():
    with pytest.raises(ValueError, match=r"at least 2 features .* received 1"):
        masks.complementary_masks(3, 1, [0, 0])
