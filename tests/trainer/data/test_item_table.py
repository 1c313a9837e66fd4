"""The item table: rows, padding, counts, draws, and what is said of damaged data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, FeatureList, Kind, Side
from tests.trainer.synthetic import ITEMS, UNSEEN, make_config
from trainer.base.keras2 import tf
from trainer.data.item_table import ItemTable

FEATURES = make_config(Path()).feature_list


@pytest.fixture(scope="module")
def table(data_dir: Path) -> ItemTable:
    return ItemTable.load(data_dir, FEATURES)


def test_row_r_is_line_r_minus_1_and_row_0_is_padding(table: ItemTable) -> None:
    assert table.num_items == ITEMS
    assert table.ids[0] == b""
    assert table.ids[1] == b"item-1"
    for values in table.features.values():
        assert values.numpy().shape[0] == ITEMS + 1
        assert not np.any(values.numpy()[0])


def test_lists_are_padded_with_their_weights(table: ItemTable, data_dir: Path) -> None:
    stored = pq.read_table(data_dir / "items" / "items.parquet")["tags"].to_pylist()
    tags, weights = table.features["tags"].numpy(), table.features["tags_weights"].numpy()
    assert tags.shape == weights.shape == (ITEMS + 1, 3)
    for row, values in enumerate(stored, start=1):
        assert tags[row].tolist() == values + [0] * (3 - len(values))
        # The fixture's weight of tag t is 1 + t.
        assert weights[row].tolist() == [1.0 + t for t in values] + [0.0] * (3 - len(values))


def test_indices_are_narrow_and_numbers_float(table: ItemTable) -> None:
    assert table.features["product"].numpy().dtype == np.int64
    assert table.features["price"].numpy().dtype == np.float32


def test_counts(table: ItemTable) -> None:
    assert table.counts_examples[0] == table.counts_events[0] == 0
    assert table.counts_examples.sum() == 48 * 20
    assert not table.counts_examples[-UNSEEN:].any()


def test_gather_takes_rows_of_every_feature(table: ItemTable) -> None:
    taken = table.gather(np.array([3, 0, 3]))
    assert taken["product"].numpy().tolist() == [3, 0, 3]
    assert taken["tags"].shape == [3, 3]


def test_uniform_rows_never_draws_padding_and_is_repeatable(table: ItemTable) -> None:
    drawn = table.uniform_rows(20_000, tf.constant([1, 2])).numpy()
    assert set(drawn) == set(range(1, ITEMS + 1))
    # 20,000 draws of 64 rows: 312.5 expected, standard deviation 17.5; five of them.
    assert np.abs(np.bincount(drawn)[1:] - 312.5).max() < 88
    in_graph = tf.function(lambda: table.uniform_rows(20_000, tf.constant([1, 2])))()
    np.testing.assert_array_equal(drawn, in_graph)
    assert (drawn != table.uniform_rows(20_000, tf.constant([1, 3])).numpy()).any()


def test_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match=r"items\.parquet.*run preprocess"):
        ItemTable.load(tmp_path, FEATURES)


def test_missing_column_is_named(data_dir: Path) -> None:
    added = FeatureList((*FEATURES, Feature(name="colour", side=Side.ITEM, kind=Kind.CATEGORICAL)))
    with pytest.raises(LongtailError, match=r"\['colour'\] changed since preprocess ran"):
        ItemTable.load(data_dir, added)


def test_counts_of_another_table_are_refused(data_copy: Path) -> None:
    counts = pq.read_table(data_copy / "item_counts.parquet")
    beyond = counts.set_column(0, "item", pa.array(range(2, ITEMS + 2)))
    pq.write_table(beyond, data_copy / "item_counts.parquet")
    with pytest.raises(LongtailError, match=f"rows from 1 to {ITEMS}, received 2 to {ITEMS + 1}"):
        ItemTable.load(data_copy, FEATURES)


def test_damaged_file_is_named(data_copy: Path) -> None:
    (data_copy / "items" / "items.parquet").write_bytes(b"no parquet")
    with pytest.raises(LongtailError, match=r"cannot be read as Parquet.*run preprocess again"):
        ItemTable.load(data_copy, FEATURES)
