"""The baselines: small cases by hand, and ALS on users and items that fall into blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console

from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import require
from preprocessing.base.progress import Stages
from trainer.config.baselines import ALSConfig, NeighboursConfig
from trainer.config.sections import EvaluateConfig
from trainer.evaluation.baselines import popularity
from trainer.evaluation.baselines.als import ALS, ALSRecent, build_als, build_als_recent
from trainer.evaluation.baselines.neighbours import Neighbours, build_neighbours
from trainer.evaluation.baselines.own_frequent import OwnFrequent
from trainer.evaluation.baselines.popularity import PopularityRanker, RecentPopularity
from trainer.evaluation.baselines.ranker import Material
from trainer.evaluation.baselines.user_items import log_counts, read_user_items, sample_users
from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.protocol import QuerySplit, csr_of
from trainer.functional.metrics import Targets, hits, mean_over_users, recall_at_k

BLOCKS, PER_BLOCK, USERS = 4, 12, 60


def queries(
    seen: list[dict[int, int]], num_items: int, targets: list[list[int]] | None = None
) -> QuerySplit:
    triples = [(u, item, n) for u, own in enumerate(seen) for item, n in own.items()]
    users, items, counts = (np.array(column, np.int64) for column in zip(*triples, strict=True))
    matrix = csr_of(users, items, counts, (len(seen), num_items + 1))
    return QuerySplit("test", {}, Targets.from_lists(targets or [[] for _ in seen]), matrix)


def blocks(seed: int = 0) -> tuple[Any, QuerySplit, np.ndarray]:
    """Users take nine of the twelve items of their block; the last of them is held out."""
    rng = np.random.default_rng(seed)
    seen: list[dict[int, int]] = []
    targets = []
    for user in range(USERS):
        first = (user % BLOCKS) * PER_BLOCK + 1
        own = rng.permutation(np.arange(first, first + PER_BLOCK))[:9]
        seen.append({int(item): int(rng.integers(1, 4)) for item in own[:8]})
        targets.append([int(own[8])])
    split = queries(seen, BLOCKS * PER_BLOCK, targets)
    events = np.asarray(split.seen.sum(axis=0)).ravel().astype(np.int64)
    return split.seen, split, events


def settings(factors: int, regularization: float, alpha: float) -> dict[str, Any]:
    return {"factors": factors, "regularization": regularization, "alpha": alpha}


def material(split: QuerySplit, events: np.ndarray, user_items: Any, **evaluate: Any) -> Material:
    """Of a data set that is at hand; the users of the split are those of validation."""
    validation = QuerySplit("validation", {}, split.targets, split.seen)
    made = Material(
        data_dir=Path("nowhere"),
        buckets=assign_buckets(events, (0.5, 0.3)),
        examples=events,
        recent={"validation": events.astype(float), "test": events.astype(float)},
        validation=validation,
        settings=EvaluateConfig(ks=[4], batch_users=16, **evaluate),
        pseudo_events=2.0,
        seed=1,
        stages=Stages(Console(quiet=True)),
    )
    made.__dict__["user_items"] = user_items  # what would be read
    return made


def recall(ranked: np.ndarray, split: QuerySplit, k: int) -> float:
    return mean_over_users(recall_at_k(hits(ranked, split.targets), split.targets.counts, k))


def test_popularity_by_hand() -> None:
    ranker = PopularityRanker(np.array([0, 2, 5, 0, 2]))
    split = queries([{2: 1}, {1: 3, 4: 1}, {3: 1}], 4)
    # By events: 2 (5), then 1 and 4 (2 each, lower row first); item 3 has none and is never shown.
    assert ranker.rank(split, 2, False).tolist() == [[2, 1]] * 3
    assert ranker.rank(split, 4, False).tolist() == [[2, 1, 4, 0]] * 3
    assert ranker.rank(split, 2, True).tolist() == [[1, 4], [2, 0], [2, 1]]


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    k=st.integers(1, 25),
    data=st.data(),
)
def test_popularity_without_a_loop_agrees_with_one_user_after_another(
    events: list[int], k: int, data: st.DataObject
) -> None:
    seen = data.draw(st.lists(st.sets(st.integers(1, len(events))), min_size=1, max_size=8))
    seen.append({1})
    split = queries([dict.fromkeys(own, 1) for own in seen], len(events))
    expected = []
    for own in seen:
        left = [i for i in range(1, len(events) + 1) if events[i - 1] and i not in own]
        left.sort(key=lambda item: (-events[item - 1], item))
        expected.append((left + [0] * k)[:k])
    ranker = PopularityRanker(np.array([0, *events]))
    assert ranker.rank(split, k, True).tolist() == expected
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(popularity, "_USERS_AT_ONCE", 3)
        assert ranker.rank(split, k, True).tolist() == expected


def test_recent_popularity_is_that_of_the_split() -> None:
    events = {"validation": np.array([0, 0.5, 2.5, 0]), "test": np.array([0, 1.5, 0.25, 0.75])}
    ranker = RecentPopularity(events)
    split = queries([{1: 1}], 3)  # a split named test
    assert ranker.rank(split, 3, False).tolist() == [[1, 3, 2]]
    assert ranker.rank(split, 3, True).tolist() == [[3, 2, 0]]
    earlier = QuerySplit("validation", {}, split.targets, split.seen)
    assert ranker.rank(earlier, 3, False).tolist() == [[2, 1, 0]]


def test_own_frequent_by_hand() -> None:
    split = queries([{3: 1, 1: 4, 4: 1}, {2: 2}], 4)
    # User 0: item 1 four times, then 3 and 4 once each, lower row first.
    assert OwnFrequent().rank(split, 2, False).tolist() == [[1, 3], [2, 0]]
    assert OwnFrequent().rank(split, 5, False).tolist() == [[1, 3, 4, 0, 0], [2, 0, 0, 0, 0]]
    assert not OwnFrequent().rank(split, 2, True).any()


def test_own_frequent_of_a_user_without_history() -> None:
    split = queries([{3: 1}, {}, {2: 2}], 4)
    assert OwnFrequent().rank(split, 2, False).tolist() == [[3, 0], [0, 0], [2, 0]]


def test_als_finds_the_block_that_popularity_cannot_see() -> None:
    user_items, split, events = blocks()
    als = ALS(user_items, settings(8, 0.1, 5.0), iterations=10, seed=3, batch_users=16)
    ranked = als.rank(split, 4, exclude_seen=True)
    # Four unseen items are left in a user's block of 12: whoever knows the block has the target.
    assert recall(ranked, split, 4) > 0.9
    assert recall(PopularityRanker(events).rank(split, 4, True), split, 4) < 0.5
    seen = split.seen.toarray()
    assert not any(seen[user, row] for user in range(USERS) for row in ranked[user] if row)


def test_als_is_the_same_for_the_same_seed() -> None:
    user_items, split, _ = blocks()
    ranked = [
        ALS(user_items, settings(4, 0.1, 1.0), 3, seed, 16).rank(split, 10, True)
        for seed in (5, 5, 6)
    ]
    assert (ranked[0] == ranked[1]).all()
    assert (ranked[0] != ranked[2]).any()


def test_als_folds_in_the_history_of_the_split() -> None:
    # A user whom training never saw, with a history in block 2 only.
    user_items, _, _ = blocks()
    als = ALS(user_items, settings(8, 0.1, 5.0), 10, 3, 16)
    first = 2 * PER_BLOCK + 1
    stranger = queries([dict.fromkeys(range(first, first + 5), 1)], BLOCKS * PER_BLOCK)
    ranked = als.rank(stranger, 5, True)[0]
    assert all(first + 5 <= row < first + PER_BLOCK for row in ranked)


def test_als_gives_a_user_without_history_what_is_popular() -> None:
    user_items, _, events = blocks()
    als = ALS(user_items, settings(4, 0.1, 1.0), 2, 3, 16)
    split = queries([{1: 1}, {}], BLOCKS * PER_BLOCK)
    assert (als.rank(split, 5, True)[1] == PopularityRanker(events).rank(split, 5, True)[1]).all()


def test_tuning_goes_from_setting_to_setting_and_keeps_the_best_of_validation() -> None:
    user_items, split, events = blocks()
    # One factor cannot hold four blocks.
    config = ALSConfig(alpha=[1.0, 5.0], regularization=[0.1], factors=[1, 8], iterations=8)
    best, grid = build_als(material(split, events, user_items, als=config))
    assert [(p["alpha"], p["factors"]) for p in grid[:2]] == [(1.0, 1), (5.0, 1)]
    better = max(grid[:2], key=lambda point: point["recall"])["alpha"]
    # With eight factors another alpha may be best: a second round asks, and tries no point twice.
    assert [(p["alpha"], p["factors"]) for p in grid[2:]] == [(better, 8), (6.0 - better, 8)]
    chosen = [point for point in grid if point["chosen"]]
    assert len(chosen) == 1
    assert chosen[0]["recall"] == max(point["recall"] for point in grid)
    assert isinstance(best, ALS) and best.settings["factors"] == chosen[0]["factors"] == 8
    assert recall(best.rank(split, 4, True), split, 4) == pytest.approx(
        chosen[0]["recall"], abs=1e-6
    )


def test_tuning_without_a_validation_user_takes_the_first_point() -> None:
    user_items, split, events = blocks()
    nobody = QuerySplit("validation", {}, Targets.from_lists([]), split.seen[:0])
    config = ALSConfig(factors=[2, 4], alpha=[1.0], regularization=[0.1], iterations=1)
    best, grid = build_als(material(nobody, events, user_items, als=config))
    assert isinstance(best, ALS) and best.settings["factors"] == 2
    assert [point["recall"] for point in grid] == [None, None]
    best, grid = build_neighbours(
        material(nobody, events, user_items, neighbours=NeighboursConfig(neighbours=[3]))
    )
    assert isinstance(best, Neighbours) and best.settings["weighting"] == "tfidf"


def test_every_default_is_a_search() -> None:
    for grid in (ALSConfig().grid, NeighboursConfig().grid):
        assert all(len(set(values)) > 1 for values in grid.values())
    assert len(ALSConfig().popularity_weight) > 1


def test_als_with_recent_popularity_by_hand() -> None:
    user_items, split, events = blocks()
    als = ALS(user_items, settings(8, 0.1, 5.0), 10, 3, 16)
    log_p = np.full(len(events), -9.0)
    log_p[7] = -1.0  # of late everybody buys item 7
    ranked = ALSRecent(als, {"test": log_p}, weight=0.2).rank(split, 4, exclude_seen=False)
    # 0.2 * 8 nats are 1.6, more than any score between two items of ALS, which are about 0 to 1.
    assert (ranked[:, 0] == 7).all()
    scores = als.users(split) @ als.items.T + 0.2 * log_p
    scores[:, 0] = -np.inf
    assert ranked.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :4].tolist()
    # With hardly any weight it is ALS.
    little = ALSRecent(als, {"test": log_p}, weight=1e-9)
    assert (little.rank(split, 4, True) == als.rank(split, 4, True)).all()


def test_als_with_recent_popularity_gives_a_stranger_what_is_popular_now() -> None:
    user_items, _, events = blocks()
    als = ALS(user_items, settings(8, 0.1, 5.0), 2, 3, 16)
    recent = np.linspace(-9, -5, len(events))
    stranger = queries([{1: 1}, {}], BLOCKS * PER_BLOCK)
    ranked = ALSRecent(als, {"test": recent}, 0.1).rank(stranger, 3, True)
    assert ranked[1].tolist() == [48, 47, 46]


def test_als_is_fitted_once_for_both() -> None:
    user_items, split, events = blocks()
    config = ALSConfig(
        factors=[8], alpha=[5.0], regularization=[0.1], popularity_weight=[0.01, 3.0]
    )
    made = material(split, events, user_items, als=config)
    plain, recent = build_als(made), build_als_recent(made)
    assert build_als(made).ranker is plain.ranker
    # Popularity alone does not know the blocks: the small weight is chosen, and ALS's settings are told.
    assert [(p["popularity_weight"], p["chosen"]) for p in recent.records] == [
        (0.01, True), (3.0, False)
    ]  # fmt: skip
    assert recent.records[0]["factors"] == 8


@pytest.mark.parametrize("weighting", ["tfidf", "cosine", "bm25"])
def test_neighbours_find_the_block_that_popularity_cannot_see(weighting: str) -> None:
    user_items, split, _ = blocks()
    ranker = Neighbours(user_items, {"weighting": weighting, "neighbours": 12})
    ranked = ranker.rank(split, 4, exclude_seen=True)
    assert recall(ranked, split, 4) > 0.9
    seen = split.seen.toarray()
    assert not any(seen[user, row] for user in range(USERS) for row in ranked[user] if row)
    # A user whom training never saw is served from the history.
    first = 2 * PER_BLOCK + 1
    stranger = queries([dict.fromkeys(range(first, first + 5), 1)], BLOCKS * PER_BLOCK)
    assert all(first + 5 <= row < first + PER_BLOCK for row in ranker.rank(stranger, 5, True)[0])


def test_neighbours_by_hand() -> None:
    # Users 0 and 1 have items 1 and 2, user 2 has 1, 3 and 3 again, user 3 has 4 alone.
    had = queries([{1: 1, 2: 1}, {1: 1, 2: 1}, {1: 1, 3: 2}, {4: 1}], 5)
    ranker = Neighbours(had.seen, {"weighting": "cosine", "neighbours": 5})
    # log(1 + n): cos(1, 2) = 2 / sqrt(3 * 2) = 0.816, cos(1, 3) = 1 / sqrt(3) = 0.577; nobody joins 4.
    asked = queries([{1: 1}, {2: 1}, {4: 1}, {}], 5)
    # After the neighbours of 1: what is popular, 4 (5 was never sold). 3 had two events, 2 two, 4 one.
    assert ranker.rank(asked, 3, True).tolist() == [[2, 3, 4], [1, 3, 4], [1, 2, 3], [1, 2, 3]]
    assert ranker.rank(asked, 5, True)[0].tolist() == [2, 3, 4, 0, 0]
    assert ranker.rank(asked, 2, False)[0].tolist() == [1, 2]


def test_a_sample_keeps_targets_and_history_together() -> None:
    _, split, _ = blocks()
    sample = sample_users(split, 20, seed=4)
    assert sample.num_users == sample.seen.shape[0] == 20
    assert sample.targets.counts.tolist() == [1] * 20
    width = split.seen.shape[1]

    def keys(each: QuerySplit) -> set[tuple[Any, ...]]:
        dense = each.seen.toarray()
        return {(*dense[u], each.targets.items[u]) for u in range(each.num_users)}

    assert keys(sample) <= keys(split)
    assert width == sample.seen.shape[1]
    assert sample_users(split, USERS, seed=4) is split


def test_repeats_weigh_less_and_less() -> None:
    weights = log_counts(queries([{1: 1, 2: 7}], 2).seen)
    assert weights.toarray() == pytest.approx(np.array([[0, np.log(2), np.log(8)]]))


def test_the_training_matrix_is_read_from_preprocessing(tmp_path: Path) -> None:
    columns = {"user": [0, 1, 1], "item": [2, 1, 3], "events": [4, 1, 2], "last": [9, 9, 9]}
    pq.write_table(pa.table(columns), tmp_path / "user_items.parquet")
    assert read_user_items(tmp_path, 3).toarray().tolist() == [[0, 0, 4, 0], [0, 1, 0, 2]]


def test_no_training_matrix(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="run preprocess"):
        read_user_items(tmp_path, 3)


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(LongtailError, match=r"'no_such_package'.*longtail\[evaluation\]"):
        require("no_such_package.inner")
