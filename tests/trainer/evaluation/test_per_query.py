"""Hits by query: counts by hand, recalls as of the protocol, the file and back, common queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.evaluation.buckets import BUCKETS, GROUPS, assign_buckets
from trainer.evaluation.per_query import (
    KNOWN,
    Key,
    common,
    count_hits,
    longer_lists,
    of_gates,
    read_per_query,
    write_per_query,
)
from trainer.evaluation.protocol import measure
from trainer.functional.metrics import Targets

# Of 100 events item 1 has 50 (head), 2 and 3 have 30 (torso), 4 has 20 (tail), 5 has none (unseen).
BUCKETS_OF = assign_buckets(np.array([0, 50, 20, 10, 20, 0]), (0.5, 0.3))
TARGETS = Targets.from_lists([[1, 4, 5], [2, 3], []])
RANKED = np.array([[4, 2, 1, 5], [3, 1, 2, 4], [1, 2, 3, 4]])
USERS = np.array([b"ann", b"bob", b"\xff"], object)


def test_counts_by_hand() -> None:
    names = [BUCKETS[b] for b in BUCKETS_OF.bucket_of_item[1:]]
    assert names == ["head", "torso", "tail", "torso", "unseen"]
    found = count_hits(USERS, RANKED, TARGETS, BUCKETS_OF, [1, 3])
    assert {b: v.tolist() for b, v in found.targets.items()} == {
        "head": [1, 0, 0], "torso": [1, 1, 0], "tail": [0, 1, 0], "unseen": [1, 0, 0]
    }  # fmt: skip
    assert found.hits["head"][1].tolist() == [0, 0, 0]
    assert found.hits["head"][3].tolist() == [1, 0, 0]
    assert found.hits["torso"][1].tolist() == [1, 0, 0]
    assert found.hits["tail"][1].tolist() == [0, 1, 0]
    assert found.lists == [1, 3]
    # Ann: 2 known targets, one found at 1 of one possible; at 3 both. Nobody asks for the third.
    assert found.recall(KNOWN, 1) == pytest.approx([1.0, 1.0, np.nan], nan_ok=True)
    assert found.recall(KNOWN, 3) == pytest.approx([1.0, 1.0, np.nan], nan_ok=True)
    assert found.recall(["tail"], 3) == pytest.approx([np.nan, 1.0, np.nan], nan_ok=True)
    assert found.total(["head", "torso"], 3) == 3


def test_recalls_are_those_of_the_protocol() -> None:
    random = np.random.default_rng(3)
    buckets = assign_buckets(np.r_[0, random.integers(0, 30, 60)], (0.5, 0.3))
    users = np.repeat(np.arange(40), 5)
    targets = Targets.from_pairs(users, random.integers(1, 61, users.size), 40)
    ranked = np.array([random.permutation(60)[:20] + 1 for _ in range(40)])
    keys = np.array([b"%d" % n for n in range(40)], object)
    found = count_hits(keys, ranked, targets, buckets, [5, 20])
    measured = measure(ranked, targets, buckets, [5, 20])
    for group in GROUPS:
        inside = KNOWN if group == "overall" else (group,)
        assert found.recall(inside, 20) == pytest.approx(measured.recall[group], nan_ok=True)


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    short = count_hits(USERS, RANKED, TARGETS, BUCKETS_OF, [1, 2])
    long = count_hits(USERS, RANKED, TARGETS, BUCKETS_OF, [1, 2, 4])
    rankings = {
        Key("test", "new", "model"): long,
        Key("test", "all", "als"): short,
        Key("validation", "new", "popularity"): short,
    }
    write_per_query(tmp_path / "x.parquet", rankings)
    read = read_per_query(tmp_path / "x.parquet")
    assert set(read) == set(rankings)
    for key, wanted in rankings.items():
        assert read[key].users.tolist() == USERS.tolist()
        assert read[key].lists == wanted.lists
        for bucket in BUCKETS:
            assert read[key].targets[bucket].tolist() == wanted.targets[bucket].tolist()
            for k in wanted.lists:
                assert read[key].hits[bucket][k].tolist() == wanted.hits[bucket][k].tolist()
    assert {key.ranker for key in of_gates(read)} == {"model", "popularity"}


def test_an_evaluation_on_nobody_is_written_as_well(tmp_path: Path) -> None:
    nobody = count_hits(
        np.array([], object), np.zeros((0, 4), int), Targets.from_lists([]), BUCKETS_OF, [1]
    )
    write_per_query(tmp_path / "x.parquet", {Key("test", "new", "model"): nobody})
    assert read_per_query(tmp_path / "x.parquet") == {}


def test_common_queries_are_brought_into_one_order() -> None:
    one = count_hits(USERS, RANKED, TARGETS, BUCKETS_OF, [3])
    mine, theirs = common(one.take(np.array([0, 1])), one.take(np.array([2, 1])))
    assert mine.users.tolist() == theirs.users.tolist() == [b"bob"]
    assert mine.hits["torso"][3].tolist() == theirs.hits["torso"][3].tolist() == [1]


def test_longer_lists_stay_far_below_the_catalogue() -> None:
    assert longer_lists(100, 92_331) == [200, 500, 1000]
    assert longer_lists(100, 5_000) == [200, 500]
    assert longer_lists(100, 1_999) == []
