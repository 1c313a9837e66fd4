"""Popularity buckets, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from trainer.evaluation.buckets import BUCKETS, HEAD, PADDING, TAIL, TORSO, UNSEEN, assign_buckets


def test_borders_by_share_of_events() -> None:
    # 100 events. By falling events the rows are 1 3 2 4 5 6 (of the equal 4 and 5 the lower row
    # first), with 0 40 60 75 85 95 events before them. Head while fewer than 50 are before: rows 1
    # and 3. Torso below 80: rows 2 and 4. Then the tail.
    events = np.array([0, 40, 15, 20, 10, 10, 5, 0])
    found = assign_buckets(events, (0.5, 0.3))
    assert found.bucket_of_item.tolist() == [PADDING, HEAD, TORSO, HEAD, TORSO, TAIL, TAIL, UNSEEN]
    assert found.num_items == 7
    assert found.known.tolist() == [False, True, True, True, True, True, True, False]
    assert found.summary() == {
        "head": {"items": 2, "events": 60, "share_of_events": 0.6},
        "torso": {"items": 2, "events": 25, "share_of_events": 0.25},
        "tail": {"items": 2, "events": 15, "share_of_events": 0.15},
        "unseen": {"items": 1, "events": 0, "share_of_events": 0.0},
    }


def test_a_border_that_binary_fractions_miss() -> None:
    # 0.1 + 0.2 > 0.3 in binary; the border stands at 3 events all the same.
    found = assign_buckets(np.array([0] + [1] * 10), (0.1, 0.2))
    assert np.bincount(found.bucket_of_item[1:]).tolist() == [1, 2, 7]


def test_one_item_that_has_it_all_is_the_head() -> None:
    found = assign_buckets(np.array([0, 0, 9]), (0.5, 0.3))
    assert found.bucket_of_item.tolist() == [PADDING, UNSEEN, HEAD]


def test_no_event_at_all() -> None:
    found = assign_buckets(np.zeros(4, np.int64), (0.5, 0.3))
    assert found.bucket_of_item.tolist() == [PADDING, UNSEEN, UNSEEN, UNSEEN]
    assert all(bucket["share_of_events"] == 0 for bucket in found.summary().values())


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.floats(0.05, 0.6),
    st.floats(0.05, 0.35),
)
def test_more_popular_is_never_in_a_lower_bucket(
    counts: list[int], head: float, torso: float
) -> None:
    events = np.array([0, *counts])
    found = assign_buckets(events, (head, torso))
    bucket = found.bucket_of_item[np.argsort(-events[1:], kind="stable") + 1]
    assert (np.diff(bucket) >= 0).all()
    summary = found.summary()
    assert sum(summary[name]["items"] for name in BUCKETS) == len(counts)
    # The item that crosses a border is above it: the head has its share, and less without it.
    if events.sum():
        assert summary["head"]["events"] >= head * events.sum() - 1e-6
        last = events[found.bucket_of_item == HEAD].min()
        assert summary["head"]["events"] - last < head * events.sum()


@pytest.mark.parametrize(
    ("events", "shares", "message"),
    [
        ([1, 2], (0.5, 0.3), "row 0 = \\[1\\]"),
        ([0, -1], (0.5, 0.3), "lowest -1"),
        ([[0]], (0.5, 0.3), "shape \\(1, 1\\)"),
        ([], (0.5, 0.3), "shape \\(0,\\)"),
        ([0, 1], (0.7, 0.3), "sum to less than 1"),
        ([0, 1], (0.0, 0.3), "above 0"),
        ([0, 1], (0.5,), "two shares"),
    ],
)
def test_impossible_input(events: list[int], shares: tuple[float, ...], message: str) -> None:
    with pytest.raises(LongtailError, match=message):
        assign_buckets(np.array(events, np.int64), shares)
