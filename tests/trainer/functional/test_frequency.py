"""The frequency estimate worked by hand, and against a slow one that looks at one item at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.maths import BOTH
from trainer.base.keras2 import tf
from trainer.functional import frequency
from trainer.negatives.frequency import FrequencyEstimator


def hash_by_hand(row: int, num_buckets: int, hash_number: int) -> int:
    """SplitMix64 in Python's integers, from its paper."""
    z = (row + (hash_number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z >> 32) * num_buckets >> 32


class Slow:
    """Algorithms 2 and 3 with loops over dictionaries."""

    def __init__(self, num_buckets: int, num_hashes: int, a: float, initial: float) -> None:
        self.num_buckets, self.num_hashes, self.a, self.initial = (
            num_buckets,
            num_hashes,
            a,
            initial,
        )
        self.last: dict[tuple[int, int], int] = {}
        self.interval: dict[tuple[int, int], float] = {}

    def places(self, row: int) -> list[tuple[int, int]]:
        return [(i, hash_by_hand(row, self.num_buckets, i)) for i in range(self.num_hashes)]

    def update(self, rows: np.ndarray, step: int) -> None:
        for place in {place for row in rows.tolist() for place in self.places(row)}:
            waited = step - self.last.get(place, 0)
            old = self.interval.get(place, self.initial)
            self.interval[place] = (1 - self.a) * old + self.a * waited
            self.last[place] = step

    def probability(self, row: int) -> float:
        return 1 / max(self.interval.get(place, self.initial) for place in self.places(row))


@BOTH
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("num_buckets", [1, 7, 4096, 2**31])
def test_hash_is_the_published_one(run, dtype, num_buckets):
    rows = np.array([0, 1, 2, 92_331, -1, 2**31 - 1], dtype)
    found = run(lambda r: frequency.buckets(r, num_buckets, 3))(tf.constant(rows))
    assert found.dtype == tf.int64
    expected = [[hash_by_hand(int(row) % 2**64, num_buckets, i) for row in rows] for i in range(3)]
    np.testing.assert_array_equal(found, expected)


def test_hash_never_changes():
    # A checkpoint is worth nothing under another hash: written down, not computed.
    found = frequency.buckets(tf.constant([1, 2, 3]), 1000, 2)
    np.testing.assert_array_equal(found, [[566, 591, 113], [745, 749, 700]])


def test_hashes_fill_the_buckets_evenly_and_independently():
    # 100,000 consecutive rows into 1,000 buckets: 100 each, standard deviation 10.
    first, second = frequency.buckets(tf.range(100_000), 1000, 2).numpy()
    for found in (first, second):
        assert abs(np.bincount(found, minlength=1000).std() - 10) < 1.5
    # Rows that share a bucket in one hash share one in the other by chance only: 1 in 1,000.
    # 10,000 rows make 5e7 pairs, of which 5e4 share a bucket, and 50 both: deviation 7.
    both = np.unique(first[:10_000] * 1000 + second[:10_000], return_counts=True)[1]
    assert 15 < (both * (both - 1) // 2).sum() < 85


def test_hash_refuses_what_is_no_list_of_integers():
    with pytest.raises(ValueError, match=r"expected integers \[N\], received float32"):
        frequency.buckets(tf.constant([1.5]), 10, 1)
    with pytest.raises(ValueError, match=r"of shape \(1, 1\)"):
        frequency.buckets(tf.constant([[1]]), 10, 1)


@BOTH
def test_interval_by_hand(run):
    # a = 1/4. Seen first at step 2: 3/4 * 100 + 1/4 * (2 - 0) = 75.5; seen again at step 12:
    # 3/4 * 75.5 + 1/4 * (12 - 2) = 59.125; again at step 12: nothing was waited, nothing changes.
    update = run(lambda b, a, t: frequency.updated_interval(b, a, t, 0.25))

    def step(number):
        return tf.constant(number, tf.int64)

    interval = update(tf.constant([100.0]), tf.constant([0], tf.int64), step(2))
    np.testing.assert_array_equal(interval, [75.5])
    interval = update(interval, tf.constant([2], tf.int64), step(12))
    np.testing.assert_array_equal(interval, [59.125])
    np.testing.assert_array_equal(update(interval, tf.constant([12], tf.int64), step(12)), [59.125])


@settings(max_examples=25)
@given(a=st.floats(1e-4, 1), initial=st.floats(1, 1e6))
def test_interval_of_an_item_in_every_batch_never_falls_below_one(a, initial):
    interval, last, one = (
        tf.constant([initial]),
        tf.constant([0], tf.int64),
        tf.constant(1, tf.int64),
    )
    for _ in range(50):
        interval = frequency.updated_interval(interval, last, one, a)
        assert interval[0] >= 1
    resting = frequency.updated_interval(tf.constant([1.0]), last, one, a)
    np.testing.assert_array_equal(resting, [1.0])


@BOTH
def test_longest_interval_of_the_hashes_counts(run):
    # Items by column: max(2, 8) = 8, max(50, 10) = 50, max(1, 1) = 1.
    log_p = run(frequency.log_probability_per_batch)(tf.constant([[2.0, 50, 1], [8, 10, 1]]))
    np.testing.assert_allclose(np.exp(log_p), [1 / 8, 1 / 50, 1], rtol=1e-6)


@BOTH
def test_per_draw_by_hand(run):
    # q = 1/2, 2 draws: p = 1 - (1/2)^2 = 3/4. Inverted 1/2; divided 3/8.
    log_p = tf.math.log(tf.constant([0.75]))
    divided = run(frequency.log_probability_per_draw)(log_p, 2)
    inverted = run(frequency.log_probability_per_draw_exact)(log_p, 2)
    np.testing.assert_allclose(np.exp(divided), [3 / 8], rtol=1e-6)
    np.testing.assert_allclose(np.exp(inverted), [1 / 2], rtol=1e-6)


def test_per_draw_of_the_tail_is_the_same_either_way():
    # q = 1e-12 of 1,000 draws: far below float32's resolution beside 1.
    log_p = tf.constant([math.log(1e-9)])
    for log_q in (
        frequency.log_probability_per_draw(log_p, 1000),
        frequency.log_probability_per_draw_exact(log_p, 1000),
    ):
        np.testing.assert_allclose(log_q, [math.log(1e-12)], rtol=1e-6)


def test_item_in_every_batch_has_a_finite_exact_probability():
    # 1 - 0.01^(1/1000) = 1 - exp(-4.60517/1000) = 0.0045946.
    log_q = frequency.log_probability_per_draw_exact(tf.constant([0.0]), 1000, 0.01)
    np.testing.assert_allclose(np.exp(log_q), [0.0045946], rtol=1e-4)


@settings(max_examples=15)
@given(
    num_buckets=st.integers(1, 60),  # 40 items: many collisions
    num_hashes=st.integers(1, 4),
    a=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 2**31 - 1),
)
def test_random_streams_agree_with_the_slow_reference(num_buckets, num_hashes, a, seed):
    rng = np.random.default_rng(seed)
    estimator = FrequencyEstimator(num_buckets, num_hashes, a, 20.0)
    slow = Slow(num_buckets, num_hashes, a, 20.0)
    step = 0
    for _ in range(25):
        step += int(rng.integers(1, 4))
        rows = (40 * rng.random(int(rng.integers(1, 12))) ** 2).astype(np.int32)  # repeats
        estimator.update(tf.constant(rows), tf.constant(step))
        slow.update(rows, step)
    log_p = estimator.log_probability(tf.range(40))
    expected = [math.log(slow.probability(row)) for row in range(40)]
    np.testing.assert_allclose(log_p, expected, rtol=1e-5, atol=1e-5)
