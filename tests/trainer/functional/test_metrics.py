"""Ranking metrics against loops over users, and hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.functional import metrics
from trainer.functional.metrics import Targets

quick = settings(max_examples=60, deadline=None)
METRICS = [metrics.recall_at_k, metrics.ndcg_at_k, metrics.mrr_at_k]

# Four users: two hits of three, no hit, no targets, one hit behind padding.
RANKED = np.array([[4, 9, 2, 7], [1, 2, 3, 4], [1, 2, 3, 4], [5, 0, 0, 0]])
TARGETS = Targets.from_lists([[2, 4, 8], [9], [], [5, 5]])


@st.composite
def rankings(draw):
    num_users, width = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    ranked = np.zeros([num_users, width], np.int64)
    for row in ranked:
        shown = draw(st.lists(st.integers(1, 9), max_size=width, unique=True))
        row[: len(shown)] = shown
    targets = draw(
        st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=num_users, max_size=num_users)
    )
    return ranked, targets, draw(st.integers(1, width))


def slow(name, shown, wanted, k):
    """One metric of one user, by its definition."""
    wanted = set(wanted)
    if not wanted:
        return math.nan
    places = [rank for rank, item in enumerate(shown[:k], start=1) if item in wanted]
    ideal = min(len(wanted), k)
    if name == "recall_at_k":
        return len(places) / ideal
    if name == "mrr_at_k":
        return 1 / places[0] if places else 0.0
    gain = sum(1 / math.log2(rank + 1) for rank in places)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, ideal + 1))


def test_hits_by_hand():
    expected = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(metrics.hits(RANKED, TARGETS), np.array(expected, bool))
    np.testing.assert_array_equal(TARGETS.counts, [3, 1, 0, 1])


def test_metrics_by_hand():
    found = metrics.hits(RANKED, TARGETS)
    # User 0 at 4: 2 of min(3, 4) = 3. At 1: 1 of min(3, 1) = 1.
    recall = metrics.recall_at_k(found, TARGETS.counts, 4)
    np.testing.assert_allclose(recall, [2 / 3, 0, np.nan, 1])
    np.testing.assert_allclose(metrics.recall_at_k(found, TARGETS.counts, 1), [1, 0, np.nan, 1])
    # Gain 1/log2(2) + 1/log2(4) = 1.5; ideal 1 + 1/log2(3) + 1/2 = 2.130930; 1.5/2.130930.
    ndcg = metrics.ndcg_at_k(found, TARGETS.counts, 4)
    np.testing.assert_allclose(ndcg, [0.703918, 0, np.nan, 1], rtol=1e-6)
    late = np.array([[False, False, True]])
    np.testing.assert_allclose(metrics.mrr_at_k(late, [1], 3), [1 / 3])
    np.testing.assert_allclose(metrics.mrr_at_k(late, [1], 2), [0])
    # Users 0, 1 and 3: (2/3 + 0 + 1) / 3.
    np.testing.assert_allclose(metrics.mean_over_users(recall), 5 / 9)


@quick
@given(rankings())
def test_metrics_against_loops(drawn):
    ranked, lists, k = drawn
    targets = Targets.from_lists(lists)
    found = metrics.hits(ranked, targets)
    for metric in METRICS:
        expected = [
            slow(metric.__name__, list(row), wanted, k)
            for row, wanted in zip(ranked, lists, strict=True)
        ]
        np.testing.assert_allclose(metric(found, targets.counts, k), expected, err_msg=str(metric))


@quick
@given(rankings(), st.randoms(use_true_random=False))
def test_permuting_the_users_permutes_the_metrics(drawn, random):
    ranked, lists, k = drawn
    order = list(range(len(lists)))
    random.shuffle(order)
    permuted = Targets.from_lists([lists[user] for user in order])
    targets = Targets.from_lists(lists)
    for metric in METRICS:
        np.testing.assert_array_equal(
            metric(metrics.hits(ranked[order], permuted), permuted.counts, k),
            metric(metrics.hits(ranked, targets), targets.counts, k)[order],
        )


@quick
@given(rankings())
def test_buckets_restrict_targets_and_not_the_ranking(drawn):
    ranked, lists, k = drawn
    bucket_of_item = np.array([-1, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    targets = Targets.from_lists(lists)
    for metric in METRICS:
        for bucket in (0, 1, 2):
            inside = targets.restrict(bucket_of_item == bucket)
            values = metric(metrics.hits(ranked, inside), inside.counts, k)
            expected = [
                slow(
                    metric.__name__,
                    list(row),
                    [item for item in wanted if bucket_of_item[item] == bucket],
                    k,
                )
                for row, wanted in zip(ranked, lists, strict=True)
            ]
            np.testing.assert_allclose(values, expected)


def test_bucket_by_hand():
    # Head {4}, tail {2, 8}: user 0 finds 4 (1 of 1) and 2 (1 of 2); its rank 3 stays 3.
    bucket_of_item = np.array([-1, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    head, tail = (TARGETS.restrict(bucket_of_item == bucket) for bucket in (0, 1))
    for inside, expected in ((head, [1, np.nan, np.nan, 1]), (tail, [0.5, 0, np.nan, np.nan])):
        found = metrics.hits(RANKED, inside)
        np.testing.assert_allclose(metrics.recall_at_k(found, inside.counts, 4), expected)
    mrr = metrics.mrr_at_k(metrics.hits(RANKED, tail), tail.counts, 4)
    np.testing.assert_allclose(mrr[0], 1 / 3)


def test_item_ranked_twice_counts_once():
    targets = Targets.from_lists([[3, 5]])
    found = metrics.hits([[3, 3, 3]], targets)
    np.testing.assert_array_equal(found, [[True, False, False]])
    np.testing.assert_allclose(metrics.recall_at_k(found, targets.counts, 3), [0.5])


def test_padding_is_no_target_and_no_hit():
    targets = Targets.from_lists([[0], [0, 2]])
    np.testing.assert_array_equal(targets.counts, [0, 1])
    np.testing.assert_array_equal(metrics.hits([[0, 0], [0, 2]], targets), [[0, 0], [0, 1]])


def test_nobody_has_targets():
    targets = Targets.from_lists([[], []])
    found = metrics.hits(np.ones([2, 3], int), targets)
    for metric in METRICS:
        values = metric(found, targets.counts, 3)
        assert np.isnan(values).all()
        assert math.isnan(metrics.mean_over_users(values))
    assert metrics.hits(np.zeros([0, 3], int), Targets.from_lists([])).shape == (0, 3)


def test_large_ids_and_many_users_do_not_overflow():
    # Row 200,000 times an id of 1e9 is 2e14: beyond int32, within int64.
    num_users, item = 200_000, 1_000_000_000
    targets = Targets.from_pairs(np.arange(num_users), np.full(num_users, item), num_users)
    found = metrics.hits(np.full([num_users, 1], item), targets)
    assert metrics.recall_at_k(found, targets.counts, 1).min() == 1


def test_coverage_by_hand():
    # Places 1 and 2 of all users show 1, 2, 4, 5 and 9: 5 of 10 items.
    assert metrics.coverage_at_k(RANKED, 2, 10) == 0.5
    assert metrics.coverage_at_k(np.zeros([2, 2], int), 2, 10) == 0


def test_gini_by_hand():
    # Exposures 0, 0, 1, 3 (n = 4): (-3*0 - 1*0 + 1*1 + 3*3) / (4 * 4) = 10/16.
    ranked = np.array([[7, 3], [7, 0], [7, 0]])
    np.testing.assert_allclose(metrics.gini_of_exposure(ranked, 2, 4), 10 / 16)
    np.testing.assert_allclose(metrics.gini_of_exposure(np.array([[1, 2], [3, 4]]), 2, 4), 0)
    # One item takes everything: (n - 1)/n.
    np.testing.assert_allclose(metrics.gini_of_exposure(ranked, 1, 10), 0.9)
    assert math.isnan(metrics.gini_of_exposure(np.zeros([2, 2], int), 2, 4))


@quick
@given(rankings())
def test_gini_is_the_mean_difference(drawn):
    ranked, _, k = drawn
    exposure = np.bincount(ranked[:, :k].ravel(), minlength=10)[1:]
    gini = metrics.gini_of_exposure(ranked, k, 9)
    if not exposure.sum():
        assert math.isnan(gini)
        return
    # G = sum_ij |x_i - x_j| / (2 n sum x): the definition, by pairs.
    pairs = np.abs(exposure[:, None] - exposure[None, :]).sum()
    np.testing.assert_allclose(gini, pairs / (2 * 9 * exposure.sum()), atol=1e-12)


def test_mean_popularity_by_hand():
    popularity = np.array([1000, 10, 20, 60])
    # Means of (10 + 60)/2 = 35 and 20, over two users; the third is shown nothing.
    ranked = np.array([[1, 3], [2, 0], [0, 0]])
    assert metrics.mean_popularity(ranked, 2, popularity) == 27.5
    assert math.isnan(metrics.mean_popularity(np.zeros([1, 2], int), 2, popularity))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"ranked: expected \[4, K\], received shape \(3, 4\)"):
        metrics.hits(RANKED[:3], TARGETS)
    with pytest.raises(ValueError, match=r"k: expected from 1 to the 4 columns .* received 5"):
        metrics.recall_at_k(metrics.hits(RANKED, TARGETS), TARGETS.counts, 5)
    with pytest.raises(ValueError, match="received 0"):
        metrics.coverage_at_k(RANKED, 0, 10)
    with pytest.raises(ValueError, match="expected user rows from 0 to 1"):
        Targets.from_pairs([0, 2], [1, 1], 2)
    with pytest.raises(ValueError, match=r"expected users \[T\] and items \[T\]"):
        Targets.from_pairs([0, 1], [1], 2)
