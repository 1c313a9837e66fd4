"""Counts of items: what a partition holds and sends does not grow with the catalogue."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.beam import workers
from preprocessing.beam.merging import Merge
from preprocessing.log import dropped_items, examples
from preprocessing.transform.item_counts import ItemCounts, LogStatistics
from tests.preprocessing.interactions import make_config, partition

CATALOGUE = 10_000_000
PARTS = st.lists(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9)), max_size=20))


def held(counts: ItemCounts) -> int:
    """Bytes of the arrays."""
    arrays = [*counts._merged, *(each for part in counts._waiting for each in part)]
    return sum(array.nbytes for array in arrays)


def test_a_hundred_events_of_ten_million_items_are_a_few_kilobytes(tmp_path: Path) -> None:
    """A partition's statistics; dense arrays were 0.4 GB."""
    rows = np.random.default_rng(1).integers(1, CATALOGUE + 1, 100)
    config = make_config()
    table = partition([(f"u{n % 7}", int(row), n) for n, row in enumerate(rows)])
    path = str(tmp_path / "log.arrow")
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    rules = examples.Rules((200_000_000, 300_000_000), (200_000_000, 300_000_000, 300_000_000))
    worker = workers.TrainingRows(config, rules, str(tmp_path))
    statistics = next(
        each.value
        for each in worker.process((0, [(path, [0])], []))
        if isinstance(each, TaggedOutput)
    )
    assert {*statistics.item_counts} == {
        "events", "examples", "recent_validation", "recent_test", "recent_now",
    }  # fmt: skip
    # Five counts of at most 100 rows, of 4 and 8 bytes.
    assert sum(held(each) for each in statistics.item_counts.values()) <= 5 * 100 * 12
    assert len(pickle.dumps(statistics)) < 5 * 100 * 12 + 5_000
    assert statistics.item_counts["events"].dense(CATALOGUE + 1).sum() == 100


@given(PARTS)
def test_merged_counts_are_those_of_dense_arrays(parts: list[list[tuple[int, int]]]) -> None:
    plain, weighted = np.zeros(31, np.int64), np.zeros(31)
    statistics = []
    for part in parts:
        rows, weights = (np.array([r[i] for r in part], np.int64) for i in (0, 1))
        plain += np.bincount(rows, minlength=31)
        weighted += np.bincount(rows, weights / 4, minlength=31)  # quarters add up exactly
        statistics.append(LogStatistics())
        statistics[-1].count_items("plain", rows)
        statistics[-1].count_items("weighted", rows, weights / 4)
    merge = Merge(LogStatistics)
    half = len(parts) // 2
    merged = merge.merge_accumulators(
        pickle.loads(pickle.dumps(_added(merge, each)))
        for each in (statistics[:half], statistics[half:])
    )
    for name, expected in (("plain", plain), ("weighted", weighted)):
        found = merged.item_counts.get(name, ItemCounts()).dense(31)
        assert found.tolist() == expected.tolist()
        assert not parts or found.dtype == expected.dtype


def test_many_parts_are_merged_now_and_then_and_never_pile_up() -> None:
    counts, random = ItemCounts(), np.random.default_rng(2)
    for _ in range(300):
        counts.merge(ItemCounts().add(random.integers(1, 5_000, 2_000)))
        # Merged: 5,000 rows at most. Waiting: 2^16 entries at most and one part.
        assert held(counts) <= 12 * (5_000 + (1 << 16) + 2_000)
    assert counts.dense(5_000).sum() == 600_000


def test_a_dropped_item_costs_a_bit(tmp_path: Path) -> None:
    dropped = np.zeros(1_000_001, np.bool_)
    dropped[[0, 7, 8, 1_000_000]] = True
    path = str(tmp_path / "dropped")
    dropped_items.write(path, dropped)
    assert (tmp_path / "dropped").stat().st_size == 125_001
    rows = np.array([1_000_000, 9, 8, 7, 6, 1, 0])
    assert dropped_items.is_dropped(path, rows).tolist() == [
        True,
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    assert not dropped_items.is_dropped(None, rows).any()


def _added(merge: Merge, parts: list[LogStatistics]) -> Any:
    accumulator = merge.create_accumulator()
    for part in parts:
        accumulator = merge.add_input(accumulator, part)
    return accumulator
