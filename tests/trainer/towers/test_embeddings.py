"""Embeddings of features: sizes, means, and gradients that stay sparse up to the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, FeatureList, Kind, Side
from tests.trainer.synthetic import GROUPS, ITEMS, TAGS, USERS, make_config
from trainer.base.keras2 import keras, tf
from trainer.data.vocabulary import table_sizes
from trainer.loop.optimizer import SparseAdagrad
from trainer.towers.embeddings import FeatureEmbeddings, seed_of
from trainer.towers.pooling import weighted_mean

ALL = make_config(Path()).feature_list
ITEM_SIDE = ALL.item_columns
SIZES = {"product": 10, "category": 5, "tags": 6}


def item_embeddings() -> FeatureEmbeddings:
    return FeatureEmbeddings(ITEM_SIDE, SIZES, seed=3)


def batch(**changed: Any) -> dict[str, tf.Tensor]:
    values: dict[str, Any] = {
        "product": [1, 0],
        "category": [2, 2],
        "tags": [[1, 3, 0], [0, 0, 0]],
        "tags_weights": [[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]],
        "price": [0.5, -2.0],
    }
    return {name: tf.constant(value) for name, value in {**values, **changed}.items()}


def table_of(layer: FeatureEmbeddings, name: str) -> np.ndarray:
    return np.asarray(layer.table(ALL.get(name)))


def test_sizes_are_vocabulary_and_hashed_buckets_and_padding(data_dir: Path) -> None:
    sizes = table_sizes(data_dir, ALL)
    assert sizes == {
        "user_key": USERS + 2,
        "segment": GROUPS + 2,
        "hour": 4 + 1,
        "product": ITEMS + 2,
        "category": GROUPS + 2,
        "tags": TAGS + 2,
    }


def test_unknown_vocabulary_and_missing_graph_are_named(data_dir: Path, tmp_path: Path) -> None:
    added = FeatureList((*ALL, Feature(name="colour", side=Side.ITEM, kind=Kind.CATEGORICAL)))
    with pytest.raises(LongtailError, match=r"vocabulary 'colour'.*run it again"):
        table_sizes(data_dir, added)
    with pytest.raises(LongtailError, match="run preprocess"):
        table_sizes(tmp_path, ALL)


def test_output_is_the_parts_in_order() -> None:
    layer = item_embeddings()
    product, category, tags = (table_of(layer, n) for n in ("product", "category", "tags"))
    output = layer(batch()).numpy()
    assert output.shape == (2, layer.width) == (2, 8 + 4 + 4 + 1)
    np.testing.assert_allclose(output[0, :8], product[1])
    np.testing.assert_allclose(output[1, :8], product[0])  # index 0 has its own embedding
    np.testing.assert_allclose(output[:, 8:12], category[[2, 2]])
    # (1 * tags[1] + 3 * tags[3]) / 4; the empty list gives the row of index 0.
    np.testing.assert_allclose(output[0, 12:16], tags[1] / 4 + tags[3] * 3 / 4, rtol=1e-5)
    np.testing.assert_allclose(output[1, 12:16], tags[0], rtol=1e-6)
    np.testing.assert_allclose(output[:, 16], [0.5, -2.0])


def test_unweighted_values_count_alike_and_padding_not_at_all() -> None:
    tags = Feature(name="tags", side=Side.ITEM, kind=Kind.MULTI, dim=4)
    layer = FeatureEmbeddings(FeatureList((tags,)), SIZES)
    output = layer({"tags": tf.constant([[1, 3, 3, 0]])}).numpy()
    values = np.asarray(layer.table(tags))
    np.testing.assert_allclose(output[0], (values[1] + 2 * values[3]) / 3, rtol=1e-5)


def test_values_without_any_weight_give_the_row_of_index_0() -> None:
    layer = item_embeddings()
    output = layer(batch(tags_weights=[[0.0, 0.0, 0.0]] * 2)).numpy()
    np.testing.assert_allclose(output[0, 12:16], table_of(layer, "tags")[0], rtol=1e-6)


def test_lookup_keeps_leading_dimensions() -> None:
    layer = item_embeddings()
    assert layer.lookup(ALL.get("product"), tf.ones([2, 5], tf.int32)).shape == [2, 5, 8]
    tags, ones = tf.ones([2, 5, 3], tf.int32), tf.ones([2, 5, 3])
    assert layer.lookup(ALL.get("tags"), tags, ones).shape == [2, 5, 4]


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    first, second = item_embeddings(), item_embeddings()
    np.testing.assert_array_equal(table_of(first, "product"), table_of(second, "product"))
    assert (table_of(first, "category")[:4] != table_of(first, "tags")[:4]).any()
    # crc32(b"a") = 0xE8B7BE43 = 3,904,355,907; modulo 2^31: 1,756,872,259.
    assert seed_of(0, "a") == 1_756_872_259


def test_gradients_are_sparse_with_each_index_once() -> None:
    layer = item_embeddings()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch(product=[1, 1])) ** 2)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert isinstance(gradient, tf.IndexedSlices)
    tags = tape_of_mean([[1, 3, 3], [3, 0, 0]])
    assert sorted(tags.indices.numpy()) == [0, 1, 3]


def mean_of_rows(table: tf.Variable, indices: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    distinct, positions = tf.unique(tf.reshape(indices, [-1]), out_idx=tf.int64)
    return weighted_mean(
        tf.gather(table, distinct), tf.reshape(positions, tf.shape(indices)), weights
    )


def tape_of_mean(indices: list[list[int]]) -> tf.IndexedSlices:
    table = tf.Variable(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    weights = tf.cast(tf.constant(indices) != 0, tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mean_of_rows(table, tf.constant(indices), weights) ** 2)
    return tape.gradient(loss, table)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradient_of_the_mean_is_that_of_the_plain_formula(compiled: bool) -> None:
    rng = np.random.default_rng(1)
    table = tf.Variable(rng.normal(size=(9, 4)).astype(np.float32))
    weights = tf.Variable(rng.random((5, 7)).astype(np.float32))
    indices = tf.constant(rng.integers(0, 9, (5, 7)), tf.int32)
    mask = tf.cast(indices != 0, tf.float32)
    upstream = tf.constant(rng.normal(size=(5, 4)).astype(np.float32))

    def gradients(mean: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(mean(weights * mask) * upstream)
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, [table, weights])]

    def plain(used: tf.Tensor) -> tf.Tensor:
        summed = tf.reduce_sum(used[:, :, None] * tf.gather(table, indices), axis=1)
        return summed / tf.reduce_sum(used, axis=1, keepdims=True)

    def fast() -> list[tf.Tensor]:
        return gradients(lambda used: mean_of_rows(table, indices, used))

    ours = tf.function(fast)() if compiled else fast()
    for one, other in zip(ours, gradients(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_optimizer_agrees_with_keras_and_touches_no_other_row() -> None:
    start = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    slices = tf.IndexedSlices(tf.constant([[1.0] * 4, [2.0] * 4, [3.0] * 4]), [4, 2, 4], [6, 4])
    results = []
    for optimizer in (SparseAdagrad(0.1, 0.1), keras.optimizers.Adagrad(0.1)):
        table, dense = tf.Variable(start), tf.Variable(start)
        for _ in range(3):
            optimizer.apply_gradients([(slices, table), (tf.ones([6, 4]), dense)])
        results.append((table.numpy(), dense.numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)
    np.testing.assert_array_equal(results[0][0][[0, 1, 3, 5]], start[[0, 1, 3, 5]])


def test_optimizer_adds_up_a_repeated_row_before_it_squares() -> None:
    table = tf.Variable([[1.0]])
    optimizer = SparseAdagrad(0.5, 9.0)
    optimizer.apply_gradients(
        [(tf.IndexedSlices(tf.constant([[1.0], [3.0]]), [0, 0], [1, 1]), table)]
    )
    # g = 1 + 3 = 4, a = 9 + 16 = 25, x = 1 - 0.5 * 4 / 5 = 0.6.
    np.testing.assert_allclose(table.numpy(), [[0.6]], rtol=1e-6)


def test_optimizer_refuses_an_accumulator_of_0() -> None:
    with pytest.raises(ValueError, match="above 0, received 0"):
        SparseAdagrad(0.1, 0.0)
