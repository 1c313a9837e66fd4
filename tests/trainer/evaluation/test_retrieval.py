"""Exact retrieval against a sort over all items: exclusion, padding, ties, slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.ragged import Ragged
from trainer.evaluation import retrieval
from trainer.evaluation.retrieval import recall_on, top_items, top_items_by_mode
from trainer.functional.metrics import Targets


def by_sorting(
    queries: np.ndarray, items: np.ndarray, k: int, exclude: list[list[int]] | None
) -> np.ndarray:
    """The slow way: every score, sorted; of equals the lower row first."""
    ranked = np.zeros((len(queries), k), np.int32)
    for user, query in enumerate(queries):
        barred = {0, *(exclude[user] if exclude else [])}
        left = [row for row in range(len(items)) if row not in barred]
        left.sort(key=lambda row: (-(items[row] @ query), row))
        ranked[user, : min(k, len(left))] = left[:k]
    return ranked


def ragged(lists: list[list[int]]) -> Ragged:
    splits = np.concatenate([[0], np.cumsum([len(each) for each in lists])])
    return Ragged(np.array([row for each in lists for row in each], np.int64), splits)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(1, 9),
    num_items=st.integers(1, 300),
    k=st.integers(1, 12),
    batch=st.integers(1, 4),
    sliced=st.booleans(),
)
def test_agrees_with_sorting(
    seed: int, users: int, num_items: int, k: int, batch: int, sliced: bool
) -> None:
    rng = np.random.default_rng(seed)
    # Small integers: exact in float32, with many ties.
    queries = rng.integers(-2, 3, (users, 3)).astype(np.float32)
    items = rng.integers(-2, 3, (num_items + 1, 3)).astype(np.float32)
    lists = [
        sorted(rng.choice(num_items, rng.integers(0, num_items), replace=False) + 1)
        for _ in range(users)
    ]
    held = retrieval._SCORES_HELD
    retrieval._SCORES_HELD = 7 if sliced else held
    try:
        rows, scores = top_items(queries, items, k, ragged(lists), batch)
        modes = top_items_by_mode(queries, items, k, ragged(lists), batch)
    finally:
        retrieval._SCORES_HELD = held
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, by_sorting(queries, items, k, lists))
    np.testing.assert_array_equal(modes["new"], rows)
    np.testing.assert_array_equal(modes["all"], by_sorting(queries, items, k, None))
    expected = np.where(rows > 0, np.einsum("ud,ukd->uk", queries, items[rows]), -np.inf)
    np.testing.assert_array_equal(scores, expected)


def test_padding_is_never_returned_however_well_it_scores() -> None:
    items = np.array([[100.0], [1.0], [2.0]], np.float32)
    rows, scores = top_items(np.ones((2, 1), np.float32), items, 2, None, 8)
    assert rows.tolist() == [[2, 1], [2, 1]]
    assert scores.tolist() == [[2.0, 1.0], [2.0, 1.0]]


def test_fewer_items_than_asked_for_are_filled_with_0() -> None:
    items = np.array([[0.0], [1.0], [2.0]], np.float32)
    rows, scores = top_items(np.ones((1, 1), np.float32), items, 4, ragged([[2]]), 8)
    assert rows.tolist() == [[1, 0, 0, 0]]
    assert scores.tolist() == [[1.0, -np.inf, -np.inf, -np.inf]]


def test_no_queries() -> None:
    rows, scores = top_items(np.zeros((0, 2), np.float32), np.ones((3, 2), np.float32), 2, None, 8)
    assert rows.shape == scores.shape == (0, 2)


@pytest.mark.parametrize(
    ("shape", "k", "splits", "message"),
    [
        ((2, 3), 0, None, "k: expected 1 or more"),
        ((2, 4), 1, None, r"received \(2, 4\)"),
        ((2, 3), 1, [0, 1], r"row_splits \[3\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, int], k: int, splits: list[int] | None, message: str
) -> None:
    exclude = None if splits is None else (np.array([1]), np.array(splits))
    with pytest.raises(ValueError, match=message):
        top_items(np.ones(shape, np.float32), np.ones((4, 3), np.float32), k, exclude, 8)


def test_lists_of_chosen_rows() -> None:
    lists = ragged([[1, 2], [], [3], [4, 5, 6]])
    taken = lists.take(np.array([3, 1, 0]))
    assert taken.values.tolist() == [4, 5, 6, 1, 2]
    assert taken.row_splits.tolist() == [0, 3, 3, 5]
    assert len(lists) == 4
    assert lists.take(np.array([], np.int64)).row_splits.tolist() == [0]


def test_recall_counts_known_targets_only() -> None:
    ranked = np.array([[1, 2], [3, 4], [5, 6]])
    targets = Targets.from_lists([[2, 9], [4, 3, 7], [9]])
    known = np.ones(10, bool)
    known[9] = False
    figures = recall_on(ranked, targets, known, [1, 2])
    # k = 2: user 0 finds 1 of 1, user 1 finds 2 of min(3, 2); user 2 has no known target.
    assert figures["recall@2"] == 1.0
    # k = 1: user 0 finds 0 of 1, user 1 finds 1 of 1.
    assert figures["recall@1"] == 0.5
    # Reciprocal rank of the first hit: 1/2 and 1.
    assert figures["mrr@2"] == 0.75


def test_recall_without_any_target_is_nan() -> None:
    figures = recall_on(np.array([[1]]), Targets.from_lists([[2]]), np.zeros(3, bool), [1])
    assert np.isnan(figures["recall@1"])
