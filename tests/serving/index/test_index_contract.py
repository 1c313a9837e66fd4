"""What every index obeys, in memory and from a SavedModel in a TF1 session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from serving.config import ScannConfig
from serving.export.exclusion import search_without
from serving.index import scann as scann_index
from serving.index.exact import ExactIndex
from serving.index.interface import Index
from serving.index.scann import ScannIndex
from serving.server.servable import Servable
from tests.serving.stacks import needs_scann
from trainer.base.keras2 import tf

LOWEST = -3.4028234663852886e38
DIM = 16


def partitioned() -> ScannIndex:
    return ScannIndex(ScannConfig(leaves=30, leaves_to_search=15, reorder=200))


INDEXES: dict[str, tuple[Callable[[], Index], float]] = {
    "exact": (ExactIndex, 1.0),
    "exact in chunks": (lambda: ExactIndex(chunk_items=700), 1.0),
    "scann brute force": (lambda: ScannIndex(ScannConfig()), 1.0),
    "scann partitions": (partitioned, 0.9),
}


@pytest.fixture(
    params=[
        pytest.param(kind, marks=needs_scann if kind.startswith("scann") else ())
        for kind in INDEXES
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around 20 centres: real embeddings have structure, uniform ones defeat partitions."""
    centres = np.random.default_rng(99).normal(size=(20, DIM))
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, 20, count)] + 0.7 * random.normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def table(count: int) -> np.ndarray:
    """Items by row; the padding row is set to win every search that looks at it."""
    return np.concatenate([np.full([1, DIM], 9.0, np.float32), vectors(count)])


def built(kind: str, items: np.ndarray) -> Index:
    index = INDEXES[kind][0]()
    index.build(items)
    return index


def search(index: Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores, rows = index.search(tf.constant(queries), k)
    return scores.numpy(), rows.numpy()


def reference(queries: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries.astype(np.float64) @ items[1:].astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order + 1


def test_finds_the_best_items_sorted_and_never_row_0(kind: str) -> None:
    items, queries = table(2000), vectors(32, seed=1)
    scores, rows = search(built(kind, items), queries, 50)
    _, expected = reference(queries, items, 50)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(expected, rows, strict=True)])
    assert recall >= INDEXES[kind][1]
    assert scores.shape == rows.shape == (32, 50)
    assert rows.dtype == np.int64
    assert (np.diff(scores, axis=1) <= 0).all()
    assert rows.min() >= 1
    assert all(len(set(row)) == 50 for row in rows)


def test_scores_are_the_inner_products_of_the_rows(kind: str) -> None:
    items, queries = table(2000), vectors(8, seed=2)
    scores, rows = search(built(kind, items), queries, 30)
    np.testing.assert_allclose(scores, np.einsum("bd,bkd->bk", queries, items[rows]), atol=1e-5)


def test_k_above_the_catalogue_is_padded_with_row_0(kind: str) -> None:
    items, queries = table(900), vectors(3, seed=3)
    scores, rows = search(built(kind, items), queries, 905)
    assert scores.shape == rows.shape == (3, 905)
    assert all(set(row[:900]) == set(range(1, 901)) for row in rows)
    assert (rows[:, 900:] == 0).all()
    assert (scores[:, 900:] == np.float32(LOWEST)).all()
    assert np.isfinite(scores).all()


def test_a_large_k_gets_real_items_from_every_index(kind: str) -> None:
    """ScaNN alone answers NaN where the searched partitions hold fewer than k items."""
    _, rows = search(built(kind, table(2000)), vectors(4, seed=4), 1500)
    assert (rows > 0).all()


@needs_scann
def test_scann_pads_what_the_searched_partitions_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """ScaNN itself answers index 0 with NaN, or fewer columns, where they hold fewer than k items."""
    monkeypatch.setattr(scann_index, "_SPARE_LEAVES", 0.0)  # one partition however large k is
    items = table(2000)
    index = ScannIndex(ScannConfig(leaves=30, leaves_to_search=1, reorder=200))
    index.build(items)
    queries = vectors(12, seed=10)
    scores, found = search(index, queries, 300)
    assert scores.shape == found.shape == (12, 300)
    assert (np.diff(scores, axis=1) <= 0).all()
    lacking = found == 0
    assert lacking.any()
    assert (scores[lacking] == np.float32(LOWEST)).all()
    real = np.einsum("bd,bkd->bk", queries, items[found])
    np.testing.assert_allclose(scores[~lacking], real[~lacking], atol=1e-5)


def test_permuted_items_give_permuted_rows(kind: str) -> None:
    items, queries = table(2000), vectors(8, seed=5)
    order = np.concatenate([[0], np.random.default_rng(3).permutation(2000) + 1])
    _, rows = search(built(kind, items), queries, 20)
    _, permuted = search(built(kind, items[order]), queries, 20)
    shared = [np.isin(order[b], a).mean() for a, b in zip(rows, permuted, strict=True)]
    assert np.mean(shared) >= INDEXES[kind][1] - 0.05
    if INDEXES[kind][1] == 1.0:
        np.testing.assert_array_equal(order[permuted], rows)


def test_one_query_and_none(kind: str) -> None:
    index = built(kind, table(2000))
    assert search(index, vectors(1), 7)[1].shape == (1, 7)
    assert search(index, vectors(0), 7)[1].shape == (0, 7)


def test_equal_scores_keep_the_order_of_rows() -> None:
    items = np.tile(vectors(1), [11, 1])
    for index in (ExactIndex(), ExactIndex(chunk_items=3)):
        index.build(items)
        np.testing.assert_array_equal(search(index, vectors(1), 4)[1], [[1, 2, 3, 4]])


def test_vectors_of_rows(kind: str) -> None:
    items = table(1000)
    found = built(kind, items).vectors(tf.constant([1, 1000, 7], tf.int64))
    np.testing.assert_array_equal(found.numpy(), items[[1, 1000, 7]])


def test_the_same_items_give_the_same_index(kind: str) -> None:
    items, queries = table(2000), vectors(16, seed=6)
    first, second = (search(built(kind, items), queries, 40)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_excluded_items_are_replaced_by_the_next_best(kind: str) -> None:
    items, queries = table(2000), vectors(3, seed=7)
    index = built(kind, items)
    _, best = search(index, queries, 60)
    excluded = np.zeros([3, 40], np.int64)
    excluded[0, 5:30] = best[0, :25]  # the best, after padding
    excluded[1, :2] = best[1, 3]  # twice the same
    expected = [[row for row in best[at] if row not in excluded[at]][:10] for at in range(3)]
    scores, rows = search_without(
        index, tf.constant(queries), tf.constant(excluded), tf.constant(10)
    )
    np.testing.assert_array_equal(rows.numpy(), expected)
    assert (np.diff(scores.numpy(), axis=1) <= 0).all()


def test_excluding_almost_everything_leaves_the_rest_and_padding(kind: str) -> None:
    items, queries = table(800), vectors(2, seed=8)
    excluded = np.stack([np.arange(1, 801), np.arange(1, 801)])
    excluded[:, 17] = 0  # all but row 18
    scores, rows = search_without(
        built(kind, items), tf.constant(queries), tf.constant(excluded), tf.constant(3)
    )
    np.testing.assert_array_equal(rows.numpy(), [[18, 0, 0], [18, 0, 0]])
    assert (scores.numpy()[:, 1:] == np.float32(LOWEST)).all()


class Watched(Index):
    """Notes the widths that are searched."""

    def __init__(self, index: Index) -> None:
        super().__init__(name="watched")
        self.inner, self.num_items, self.dim = index, index.num_items, index.dim
        self.widths: list[int] = []

    def build(self, items: Any) -> None:
        self.inner.build(items)

    def search(self, queries: Any, k: Any) -> tuple[Any, Any]:
        self.widths.append(int(k))
        return self.inner.search(queries, k)

    def vectors(self, rows: Any) -> Any:
        return self.inner.vectors(rows)


@pytest.mark.parametrize(
    ("excluded", "width"),
    [
        ([[]], 10),
        ([[0, 0, 0]], 10),  # padding, unknown items
        ([[7] * 500], 11),
        ([[7, 0, 7, 9, 0, 9, 9]], 12),
        ([[3, 4, 5], [6, 6, 6], [0, 0, 0]], 13),  # the longest of the batch
        ([list(range(1, 901)) * 3], 900),  # all there are
    ],
)
def test_a_search_is_as_wide_as_distinct_items_are_excluded(
    kind: str, excluded: list[list[int]], width: int
) -> None:
    index = Watched(built(kind, table(900)))
    queries = tf.constant(vectors(len(excluded), seed=11))
    barred = tf.constant(np.array(excluded, np.int64))
    scores, rows = search_without(index, queries, barred, tf.constant(10))
    assert index.widths == [width]
    once = [sorted(set(row)) for row in excluded]
    longest = max(map(len, once))
    alone = np.array([row + [0] * (longest - len(row)) for row in once], np.int64)
    expected = search_without(index, queries, tf.constant(alone), tf.constant(10))
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])
    for own, found in zip(excluded, rows.numpy(), strict=True):
        assert not set(own) & set(found[found > 0])


def test_k_above_the_catalogue_keeps_its_width(kind: str) -> None:
    index = Watched(built(kind, table(900)))
    scores, rows = search_without(
        index, tf.constant(vectors(1)), tf.constant([[5, 5, 6]], tf.int64), tf.constant(950)
    )
    assert index.widths == [950]
    assert scores.shape == rows.shape == (1, 950)
    assert set(rows.numpy()[0]) == {0, *range(1, 901)} - {5, 6}


def test_a_large_batch_holds_no_more_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 x 50 scores of up to 64 queries; of 320 queries 10 items at a time."""
    seen = []
    index = ExactIndex(chunk_items=50)
    items = table(45)
    index.build(items)
    scores = index._scores

    def watched(queries: Any, chunk: Any) -> Any:
        found = scores(queries, chunk)
        tf.py_function(lambda shape: seen.append(shape.numpy().tolist()), [tf.shape(found)], [])
        return found

    monkeypatch.setattr(index, "_scores", watched)
    for batch, chunks in ((64, [[64, 45]]), (320, [[320, 10]] * 4 + [[320, 5]])):
        seen.clear()
        queries = vectors(batch, seed=12)
        _, rows = search(index, queries, 7)
        assert seen == chunks
        np.testing.assert_array_equal(rows, reference(queries, items, 7)[1])


def test_saved_and_loaded_in_a_session(kind: str, tmp_path: Path) -> None:
    """Two exports in one process, each answered by its own items, by two signatures."""
    queries = vectors(5, seed=9)
    expected: list[Any] = []
    for name, count in (("a", 1500), ("b", 1600)):
        index = built(kind, table(count)[np.r_[0, count:0:-1]] if name == "b" else table(count))
        owner = tf.Module()
        owner.index = index
        specs = {"queries": tf.TensorSpec([None, DIM], tf.float32, name="queries"),
                 "k": tf.TensorSpec([], tf.int32, name="k")}  # fmt: skip

        def call(queries: Any, k: Any, index: Index = index) -> dict[str, Any]:
            scores, rows = index.search(queries, k)
            return {"scores": scores, "rows": rows}

        functions = [tf.function(call).get_concrete_function(**specs) for _ in range(2)]
        tf.saved_model.save(
            owner, str(tmp_path / name), {"serving_default": functions[0], "other": functions[1]},
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )  # fmt: skip
        expected.append(search(index, queries, 25))
    loaded = [Servable(str(tmp_path / name)) for name in "ab"]
    inputs = {"queries": queries, "k": np.array(25, np.int32)}
    for signature in ("serving_default", "other"):
        for servable, (scores, rows) in zip(loaded, expected, strict=True):
            answer = servable.run(signature, inputs)
            np.testing.assert_array_equal(answer["rows"], rows)
            np.testing.assert_allclose(answer["scores"], scores, atol=1e-6)
    for servable in loaded:
        servable.close()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (np.zeros([1, 4], np.float32), r"at least one item, received shape \(1, 4\)"),
        (np.zeros([4], np.float32), r"received shape \(4,\)"),
        (np.full([3, 4], np.nan, np.float32), "for 2 of 2 items, the first of row 1"),
    ],
)
def test_impossible_items_are_refused(kind: str, items: np.ndarray, message: str) -> None:
    with pytest.raises(LongtailError, match=message):
        built(kind, items)


@needs_scann
def test_more_leaves_than_items_could_fill_are_refused() -> None:
    with pytest.raises(LongtailError, match="received 30 leaves for 50 items"):
        partitioned().build(table(50))


def test_scann_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    with pytest.raises(LongtailError, match=r"needs ScaNN: .*'longtail\[scann\]'.* export.index"):
        ScannIndex(ScannConfig())


@needs_scann
def test_a_large_catalogue_is_partitioned_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scann_index, "BRUTE_FORCE_BELOW", 1000)
    small, large = ScannIndex(ScannConfig()), ScannIndex(ScannConfig())
    small.build(table(999))
    large.build(table(2500))
    assert small.leaves is None
    assert large.leaves == 50
