"""What is measured of a ranking, worked by hand on five items."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.protocol import (
    QuerySplit,
    clearly_best,
    csr_of,
    exposure,
    log_spaced,
    measure,
    paired_difference,
    standard_error,
)
from trainer.functional.metrics import Targets

# Rows 1 to 5 with 6, 3, 1, 1 and 0 of 11 events, and 0, 6, 9, 10 before them. The borders are 5.5
# and 8.8: head 1, torso 2, tail 3 and 4, unseen 5.
BUCKETS = assign_buckets(np.array([0, 6, 3, 1, 1, 0]), (0.5, 0.3))


def split(targets: list[list[int]], seen: list[list[int]]) -> QuerySplit:
    users = np.repeat(np.arange(len(seen)), [len(items) for items in seen])
    items = np.array([item for own in seen for item in own], np.int64)
    matrix = csr_of(users, items, np.ones(len(items)), (len(seen), 6))
    return QuerySplit("test", {}, Targets.from_lists(targets), matrix)


def test_new_targets_are_those_that_the_user_had_not_seen() -> None:
    given = split([[1, 2, 5], [1], [3]], [[2, 3], [1], []])
    new = given.targets_of("new")
    assert list(zip(new.users, new.items, strict=True)) == [(0, 1), (0, 5), (2, 3)]
    assert new.num_users == 3
    assert given.targets_of("all") is given.targets
    values, row_splits = given.exclude
    assert values.tolist() == [2, 3, 1]
    assert row_splits.tolist() == [0, 2, 3, 3]


def test_recall_by_hand() -> None:
    ranked = np.array([[1, 3], [4, 2], [1, 2], [5, 1]])
    targets = Targets.from_lists([[1, 2, 3], [1, 5], [], [5]])
    cells = measure(ranked, targets, BUCKETS, [1, 2]).cells

    # Known targets: user 0 {1, 2, 3}, user 1 {1}; users 2 and 3 have none and are left out.
    overall = cells["overall"]
    assert (overall["users"], overall["targets"]) == (2, 4)
    # @1: 1 / min(3, 1) and 0 / 1. @2: 2 / min(3, 2) and 0 / 1. Mean 1/2 in both.
    assert overall["recall@1"] == 0.5
    assert overall["recall@2"] == 0.5
    # Two values 1 and 0: sample deviation sqrt(1/2), over sqrt(2) users: 1/2.
    assert overall["recall@2/se"] == 0.5
    assert overall["mrr@2"] == 0.5
    assert overall["ndcg@2"] == 0.5

    # Head, item 1: user 0 finds it, user 1 does not. Torso, item 2: user 0 has it and misses it.
    assert (cells["head"]["users"], cells["head"]["recall@2"]) == (2, 0.5)
    assert (cells["torso"]["users"], cells["torso"]["recall@2"]) == (1, 0.0)
    assert cells["torso"]["recall@2/se"] is None  # one user has no spread
    # Tail, item 3 at the second place: found @2 with gain 1 / log2(3) of 1, and not @1.
    assert (cells["tail"]["recall@1"], cells["tail"]["recall@2"]) == (0.0, 1.0)
    assert cells["tail"]["ndcg@2"] == pytest.approx(1 / math.log2(3), abs=1e-6)
    # Unseen, item 5: user 1 misses it, user 3 has it first; none of this is in the overall figures.
    assert (cells["unseen"]["users"], cells["unseen"]["targets"]) == (2, 2)
    assert cells["unseen"]["recall@1"] == 0.5


def test_a_cell_without_users_is_none_and_valid_json() -> None:
    cells = measure(np.zeros((2, 3), np.int64), Targets.from_lists([[], []]), BUCKETS, [1, 3]).cells
    assert cells["overall"]["users"] == 0
    assert cells["overall"]["recall@3"] is None
    assert cells["exposure"]["gini"] is None
    assert cells["exposure"]["coverage"] == 0
    json.dumps(cells, allow_nan=False)


def test_no_user_at_all() -> None:
    cells = measure(np.zeros((0, 2), np.int64), Targets.from_lists([]), BUCKETS, [2]).cells
    assert cells["overall"]["recall@2"] is None


def test_exposure_by_hand() -> None:
    # Three lists of two: item 1 three times, item 2 twice, item 5 once.
    found = exposure(np.array([[1, 2], [1, 2], [1, 5]]), BUCKETS, 2)
    assert found["coverage"] == pytest.approx(3 / 5)
    assert found["shown"] == pytest.approx(
        {"head": 3 / 6, "torso": 2 / 6, "tail": 0, "unseen": 1 / 6}, abs=1e-6
    )
    # Mean events: (6 + 3) / 2, (6 + 3) / 2, (6 + 0) / 2; their mean is 4.
    assert found["mean_popularity"] == 4
    assert found["curve"]["items"] == [1, 2, 3, 5]
    assert found["curve"]["share"] == pytest.approx([3 / 6, 5 / 6, 1, 1], abs=1e-6)


def test_padding_is_not_shown() -> None:
    found = exposure(np.array([[3, 0], [0, 0]]), BUCKETS, 2)
    assert found["shown"]["tail"] == 1
    assert found["mean_popularity"] == 1


def test_paired_difference_by_hand() -> None:
    # Differences 0.1, 0.3 and none (the user has no target): mean 0.2, deviation 0.1414 / sqrt(2) = 0.1.
    found = paired_difference(np.array([0.4, 0.9, np.nan]), np.array([0.3, 0.6, np.nan]))
    assert found == {"users": 2, "difference": 0.2, "se": 0.1}


def test_who_is_clearly_best_is_told_by_paired_differences() -> None:
    base = np.array([0.0, 0.5, 1.0, 0.2])
    # Always 0.1 more: no error at all, however much the users differ.
    assert clearly_best({"a": base, "b": base + 0.1}) == "b"
    # Differences 0.4, 0, 0, 0: mean 0.1, standard deviation 0.2, error 0.1: exactly one error.
    lucky = base + np.array([0.4, 0, 0, 0])
    assert clearly_best({"a": base, "b": lucky}) is None
    # Best of three only if it leads both.
    assert clearly_best({"a": base, "b": base + 0.1, "c": base + 0.1}) is None
    assert clearly_best({"a": base, "b": base + 0.1, "c": base * np.nan}) == "b"
    assert clearly_best({"a": base}) is None
    assert clearly_best({"a": base[:1], "b": base[:1] + 1}) is None  # one user has no error


def test_standard_error_needs_two_users() -> None:
    assert math.isnan(standard_error(np.array([1.0, np.nan])))


def test_log_spaced_ends_at_the_last() -> None:
    assert log_spaced(0, 10).tolist() == []
    assert log_spaced(1, 10).tolist() == [1]
    spaced = log_spaced(100_000, 50)
    assert (spaced[0], spaced[-1]) == (1, 100_000)
    assert (np.diff(spaced) > 0).all()
