"""Splits by every method, and histories that never look ahead."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.config import SplitConfig
from preprocessing.log import splits
from preprocessing.log.histories import histories

LOG = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 9)), max_size=40)


def arrays(log: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, time and item of a log sorted by user and time."""
    rows = sorted(log, key=lambda r: r[:2])
    user, time, item = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    return user, time, item


@given(LOG, st.integers(1, 5))
def test_a_history_holds_the_last_items_of_earlier_instants_and_nothing_else(
    log: list[tuple[int, int, int]], length: int
) -> None:
    user, time, item = arrays(log)
    offsets, items = histories(user, item, time, length)
    for i in range(len(user)):
        past = [item[j] for j in range(len(user)) if user[j] == user[i] and time[j] < time[i]]
        assert items[offsets[i] : offsets[i + 1]].tolist() == past[-length:]


def test_a_basket_does_not_see_itself() -> None:
    user, time, item = np.array([7, 7, 7]), np.array([1, 2, 2]), np.array([10, 20, 30])
    offsets, items = histories(user, item, time, 5)
    assert [items[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [
        [],
        [10],
        [10],
    ]


def test_thresholds_of_a_small_log_by_hand() -> None:
    # ten interactions at 0..9: 85 % lie before 9 (8.5 rounds to the instant that reaches it), 60 % before 6
    histogram = splits.TimeHistogram().add(np.arange(10))
    assert histogram.threshold(0.85) == 9
    assert histogram.threshold(0.6) == 6


def test_equal_instants_stay_together() -> None:
    histogram = splits.TimeHistogram().add(np.array([1, 1, 1, 5]))
    assert histogram.threshold(0.5) == 5


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.integers(1, 199))
def test_a_coarse_histogram_does_not_depend_on_the_order_of_merging(
    times: list[int], cut: int
) -> None:
    values = np.array(times)
    whole = splits.TimeHistogram(limit=16).add(values)
    left = splits.TimeHistogram(limit=16).add(values[:cut])
    right = splits.TimeHistogram(limit=16).add(values[cut:])
    merged = right.merge(left)
    assert (merged.grain, merged.values.tolist()) == (whole.grain, whole.values.tolist())
    assert merged.counts.tolist() == whole.counts.tolist()
    assert len(whole.values) <= 16


def test_global_time() -> None:
    config = SplitConfig(method="global_time", validation=0.1, test=0.2)
    bounds = splits.boundaries(config, splits.TimeHistogram().add(np.arange(10)))
    got = splits.assign(config, bounds, np.zeros(10), np.arange(10), np.zeros(10))
    assert got.tolist() == [0] * 7 + [1] + [2] * 2


def test_given_instants() -> None:
    config = SplitConfig(validation_from="1970-01-01T00:00:02", test_from="1970-01-01T00:00:04")
    assert splits.boundaries(config, splits.TimeHistogram()) == (2_000_000, 4_000_000)


def test_leave_one_out_keeps_short_users_for_training() -> None:
    user = np.array([1, 1, 1, 1, 2, 2])
    got = splits.assign(SplitConfig(method="leave_one_out"), None, user, np.arange(6), np.zeros(6))
    assert got.tolist() == [0, 0, 1, 2, 0, 0]


def test_predefined() -> None:
    got = splits.assign(
        SplitConfig(method="column"), None, np.zeros(3), np.zeros(3), np.array([2, 0, 1])
    )
    assert got.tolist() == [2, 0, 1]


@pytest.mark.parametrize(("minimum", "few"), [(1, 0), (2, 3), (3, 5)])
def test_users_with_too_few_interactions_that_count(minimum: int, few: int) -> None:
    counts = np.array([True, True, True, False, False])  # two of user 1, one of user 2
    assert splits.infrequent(np.array([1, 1, 2, 2, 2]), counts, minimum).sum() == few
