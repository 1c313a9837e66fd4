"""The towers: shape, length, sharing and dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.synthetic import make_config
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.item_table import ItemTable
from trainer.data.vocabulary import table_sizes
from trainer.towers.towers import ItemTower, QueryTower

SEED = tf.constant([1, 2])


@pytest.fixture(scope="module")
def item_table(data_dir: Path) -> ItemTable:
    return ItemTable.load(data_dir, make_config(Path()).feature_list)


@pytest.fixture
def make(data_dir: Path, item_table: ItemTable, configure: Callable[..., TrainerSections]) -> Any:
    def towers(**settings: Any) -> tuple[QueryTower, ItemTower]:
        config = configure(towers=settings)
        sizes = table_sizes(data_dir, config.feature_list)
        items = ItemTower(config.feature_list, sizes, config.towers, seed=1)
        return QueryTower(
            config.feature_list, sizes, config.towers, items, item_table, seed=1
        ), items

    return towers


def queries(rows: int = 4) -> dict[str, tf.Tensor]:
    return {
        "user_key": tf.range(rows) % 40 + 1,
        "segment": tf.ones([rows], tf.int32),
        "age": tf.linspace(-1.0, 1.0, rows),
        "hour": tf.ones([rows], tf.int32),
        "history": tf.constant([[1, 2, 0]] * rows),
    }


@pytest.mark.parametrize("hidden", [[], [12, 6]])
def test_output_has_the_width_asked_for_and_length_1(
    make: Any, item_table: ItemTable, hidden: list[int]
) -> None:
    query, item = make(dim=5, query_hidden=hidden, item_hidden=hidden)
    for output in (query(queries()), item(item_table.gather([1, 2, 0]))):
        assert output.shape[1] == 5
        np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1.0, rtol=1e-5)
    assert len(query.trainable_variables) == 3 + 2 * (1 + len(hidden)) + 2 + 3


def test_histories_use_the_tables_of_the_item_tower(make: Any) -> None:
    query, item = make()
    before = query(queries()).numpy()
    for variable in item.embeddings.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [5, 6]))
    assert np.abs(query(queries()).numpy() - before).max() > 1e-3
    features = make_config(Path()).feature_list
    table = item.embeddings.table(features.get("product"))
    assert sum(variable is table for variable in query.trainable_variables) == 1


def test_history_padding_changes_nothing(make: Any) -> None:
    query, _ = make()
    padded = {**queries(), "history": tf.constant([[0, 1, 2, 0, 0]] * 4)}
    np.testing.assert_allclose(query(queries()), query(padded), rtol=1e-5)


@pytest.mark.parametrize("setting", ["dropout", "unknown_rate"])
def test_what_is_drawn_acts_in_training_alone_and_by_its_seed(make: Any, setting: str) -> None:
    query, _ = make(**{setting: 0.5})
    calm = query(queries(64)).numpy()
    np.testing.assert_array_equal(calm, query(queries(64), training=False).numpy())
    dropped = query(queries(64), training=True, seed=SEED).numpy()
    np.testing.assert_array_equal(dropped, query(queries(64), training=True, seed=SEED).numpy())
    assert (dropped != query(queries(64), training=True, seed=SEED + 1).numpy()).any()
    changed = (np.abs(dropped - calm).max(axis=1) > 1e-6).mean()
    assert changed > 0.9  # of every row a value or a key


def test_at_rate_one_an_item_is_read_as_an_unknown_or_missing_key(
    make: Any, item_table: ItemTable
) -> None:
    _, item = make(unknown_rate=1 - 1e-7)
    features = item_table.gather([1, 2, 3, 4, 5, 6])
    # The last row of a table is that of its one hashed bucket; single values may also be missing.
    last = {name: item.embeddings.tables[name].shape[0] - 1 for name in ("product", "category")}
    of_keys, _ = item._seeds(True, SEED)
    read = item._with_unknown(features, of_keys)
    for name, bucket in last.items():
        assert set(read[name].numpy()) <= {0, bucket}
    tags, of_tags = features["tags"].numpy(), item.embeddings.tables["tags"].shape[0] - 1
    np.testing.assert_array_equal(read["tags"], np.where(tags == 0, 0, of_tags))
    np.testing.assert_array_equal(read["price"], features["price"])
    np.testing.assert_allclose(item(features, training=True, seed=SEED), item(read), rtol=1e-5)


def test_unknown_items_stand_in_histories_too(make: Any) -> None:
    # Only the histories tell these two users apart; at a rate of 1 nothing does.
    query, item = make(unknown_rate=1 - 1e-7)
    one = {name: tf.repeat(values[:1], 64, axis=0) for name, values in queries(64).items()}
    history = tf.reshape(tf.range(64) % 32 + 1, [64, 1])
    told = query({**one, "history": history}).numpy()
    assert np.abs(told - told[0]).max() > 1e-3
    for variable in item.embeddings.trainable_variables:
        # Rows of an unknown and of a missing key alike, so that which is drawn makes no difference.
        variable[-1].assign(variable[0])
    for variable in query.embeddings.trainable_variables:
        variable[-1].assign(variable[0])
    unknown = query({**one, "history": history}, training=True, seed=SEED).numpy()
    np.testing.assert_allclose(unknown, np.tile(unknown[0], (64, 1)), atol=1e-6)


def test_dropout_without_a_seed_is_refused(make: Any) -> None:
    query, _ = make(dropout=0.5)
    with pytest.raises(ValueError, match=r"the seed \[2\]"):
        query(queries(), training=True)


def test_missing_feature_is_named(make: Any) -> None:
    query, _ = make()
    features = queries()
    del features["segment"]
    with pytest.raises(KeyError, match="segment"):
        query(features)


def test_same_in_a_graph(make: Any) -> None:
    query, _ = make()
    compiled = tf.function(lambda features: query(features), autograph=False)
    np.testing.assert_allclose(compiled(queries()), query(queries()), rtol=1e-5)
