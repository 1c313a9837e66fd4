"""The encoders of histories: means and attention by hand, recency, padding, empty histories, shared embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocessing.features import Feature, Kind, Side
from tests.trainer.synthetic import make_config
from trainer.base.keras2 import tf
from trainer.config.history import HistoryConfig
from trainer.data.item_column import ItemColumn
from trainer.towers.embeddings import FeatureEmbeddings
from trainer.towers.history.histories import Histories
from trainer.towers.history.interface import HistoryEncoder
from trainer.towers.history.mean import HistoryMean
from trainer.towers.history.registry import ENCODERS, Encoder
from trainer.towers.history.sequence import SequenceColumn

ALL = make_config(Path()).feature_list
# Item row r has vocabulary index INDEX[r]; item 5's id is unknown to the vocabulary.
INDEX = ItemColumn([0, 3, 1, 2, 4, 0])
TAGS = ItemColumn([[0, 0], [1, 2], [3, 0], [0, 0], [2, 0], [0, 0]])


@pytest.fixture
def embeddings() -> FeatureEmbeddings:
    return FeatureEmbeddings(ALL.item_columns, {"product": 6, "category": 4, "tags": 4})


def recent(embeddings: FeatureEmbeddings, max_length: int = 4) -> HistoryMean:
    return HistoryMean([ids(embeddings, max_length)], HistoryConfig(), 0)


def ids(embeddings: FeatureEmbeddings, max_length: int = 4) -> SequenceColumn:
    sequence = Feature(
        name="recent",
        side=Side.QUERY,
        kind=Kind.SEQUENCE,
        shared_with="product",
        max_length=max_length,
    )
    return SequenceColumn(sequence, ALL.get("product"), embeddings, INDEX)


def tags(embeddings: FeatureEmbeddings, weights: ItemColumn | None = None) -> SequenceColumn:
    return SequenceColumn(ALL.get("recent_tags"), ALL.get("tags"), embeddings, TAGS, weights)


def read(histories: object) -> Histories:
    return Histories.read(tf.constant(histories, tf.int32))


def table(embeddings: FeatureEmbeddings, name: str = "product") -> np.ndarray:
    return np.asarray(embeddings.table(ALL.get(name)))


def test_starts_as_the_plain_mean(embeddings: FeatureEmbeddings) -> None:
    rows = table(embeddings)
    output = recent(embeddings)(read([[1, 2, 4, 0], [3, 0, 0, 0]])).numpy()
    np.testing.assert_allclose(output[0], (rows[3] + rows[1] + rows[4]) / 3, rtol=1e-5)
    np.testing.assert_allclose(output[1], rows[2], rtol=1e-5)


def test_weights_belong_to_recency(embeddings: FeatureEmbeddings) -> None:
    layer, rows = recent(embeddings), table(embeddings)
    # The newest weighs exp(log 3) = 3, the one before exp(0) = 1.
    layer.place_weights["recent"].assign([np.log(3.0), 0.0, 5.0, 5.0])
    output = layer(read([[1, 2, 0]])).numpy()
    np.testing.assert_allclose(output[0], (1 * rows[3] + 3 * rows[1]) / 4, rtol=1e-5)


def test_padding_may_stand_anywhere(embeddings: FeatureEmbeddings) -> None:
    layer = recent(embeddings)
    layer.place_weights["recent"].assign([2.0, 1.0, 0.5, 0.0])
    histories = [[1, 2, 4, 0, 0], [0, 0, 1, 2, 4], [1, 0, 2, 0, 4]]
    output = layer(read(histories)).numpy()
    np.testing.assert_allclose(output[1], output[0], rtol=1e-5)
    np.testing.assert_allclose(output[2], output[0], rtol=1e-5)


def test_only_the_newest_count(embeddings: FeatureEmbeddings) -> None:
    rows = table(embeddings)
    output = recent(embeddings, max_length=2)(read([[1, 2, 3, 4, 0]])).numpy()
    np.testing.assert_allclose(output[0], (rows[2] + rows[4]) / 2, rtol=1e-5)


@pytest.mark.parametrize("history", [[[0, 0, 0]], np.zeros((1, 0), np.int32)])
def test_empty_history_is_the_row_of_index_0(
    embeddings: FeatureEmbeddings, history: object
) -> None:
    output = recent(embeddings)(read(history)).numpy()
    np.testing.assert_allclose(output[0], table(embeddings)[0], rtol=1e-6)


def test_an_item_unknown_to_the_vocabulary_still_counts(embeddings: FeatureEmbeddings) -> None:
    rows = table(embeddings)
    output = recent(embeddings)(read([[5, 1]])).numpy()
    np.testing.assert_allclose(output[0], (rows[0] + rows[3]) / 2, rtol=1e-5)


def test_multivalued_items(embeddings: FeatureEmbeddings) -> None:
    weights = ItemColumn([[0, 0], [1.0, 3.0], [2.0, 0], [0, 0], [1.0, 0], [0, 0]])
    layer = HistoryMean([tags(embeddings, weights)], HistoryConfig(), 0)
    rows = table(embeddings, "tags")
    output = layer(read([[1, 2, 0], [0, 0, 0], [3, 0, 0]])).numpy()
    of_first = rows[1] / 4 + rows[2] * 3 / 4
    np.testing.assert_allclose(output[0], (of_first + rows[3]) / 2, rtol=1e-5)
    np.testing.assert_allclose(output[1], rows[0], rtol=1e-6)
    np.testing.assert_allclose(output[2], rows[0], rtol=1e-6)  # an item without tags


@pytest.mark.parametrize("name", ["recent", "recent_tags"])
def test_gradient_reaches_the_shared_table_and_the_places(
    embeddings: FeatureEmbeddings, name: str
) -> None:
    shared = ALL.get(ALL.get(name).shared_with or "")
    column = ids(embeddings, 5) if name == "recent" else tags(embeddings)
    layer = HistoryMean([column], HistoryConfig(), 0)

    @tf.function(autograph=False)
    def gradients() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(read([[1, 2, 4], [2, 0, 0]])) ** 2)
        of_table, of_places = tape.gradient(
            loss, [embeddings.table(shared), layer.place_weights[name]]
        )
        assert isinstance(of_table, tf.IndexedSlices)
        return of_table.values, of_table.indices, of_places

    slices, indices, places = gradients()
    assert set(indices.numpy()) <= {0, 1, 2, 3, 4}
    assert np.abs(slices).sum() > 0
    assert np.abs(places.numpy()[:3]).sum() > 0


def test_gradient_of_the_places_is_the_numeric_one(embeddings: FeatureEmbeddings) -> None:
    layer = recent(embeddings)
    history = read([[1, 2, 4, 0], [3, 1, 0, 0]])
    embeddings.table(ALL.get("product")).assign(
        np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    )

    def loss() -> tf.Tensor:
        return tf.reduce_sum(layer(history) ** 2)

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, layer.place_weights["recent"]).numpy()
    for place in range(4):
        step = np.eye(4, dtype=np.float32)[place] * 1e-2
        layer.place_weights["recent"].assign(step)
        above = loss()
        layer.place_weights["recent"].assign(-step)
        numeric = (above - loss()).numpy() / 2e-2
        layer.place_weights["recent"].assign(np.zeros(4))
        assert gradient[place] == pytest.approx(numeric, rel=1e-2, abs=1e-3)


def encoder(name: str, embeddings: FeatureEmbeddings) -> HistoryEncoder:
    """Over ids of the four newest items, and tags."""
    columns = [ids(embeddings), tags(embeddings)]
    layer = ENCODERS[name].build(columns, HistoryConfig(encoder=name), 1)
    random = np.random.default_rng(0)
    for weight in layer.trainable_variables:
        weight.assign(random.normal(size=weight.shape).astype(np.float32))
    return layer


@pytest.mark.parametrize("name", ENCODERS)
def test_whatever_encodes_knows_padding_order_and_the_newest(
    embeddings: FeatureEmbeddings, name: str
) -> None:
    layer = encoder(name, embeddings)
    output = layer(read([[1, 2, 4, 0, 0], [0, 0, 1, 2, 4], [1, 0, 2, 0, 4], [4, 2, 1, 0, 0]]))
    assert output.shape == (4, layer.width)
    np.testing.assert_allclose(output[1], output[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(output[2], output[0], rtol=1e-4, atol=1e-6)
    assert np.abs(output[3] - output[0]).max() > 1e-4
    # All features look at 4 items: what is older does not count.
    long, cut = layer(read([[3, 1, 2, 4, 5, 1], [0, 0, 2, 4, 5, 1]])).numpy()
    np.testing.assert_allclose(long, cut, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("history", [[[0, 0, 0]], np.zeros((1, 0), np.int32)])
def test_an_empty_history_is_one_item_of_index_0(
    embeddings: FeatureEmbeddings, name: str, history: object
) -> None:
    output = encoder(name, embeddings)(read(history)).numpy()[0]
    missing = np.concatenate([table(embeddings)[0], table(embeddings, "tags")[0]])
    for part in output.reshape(-1, len(missing)):  # of each head
        np.testing.assert_allclose(part, missing, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_reach_tables_and_own_weights(embeddings: FeatureEmbeddings, name: str) -> None:
    layer = encoder(name, embeddings)
    tables = [embeddings.table(ALL.get(each)) for each in ("product", "tags")]
    shared = {id(table) for table in embeddings.tables.values()}
    own = [weight for weight in layer.trainable_variables if id(weight) not in shared]

    @tf.function(autograph=False)
    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(read([[1, 2, 4], [2, 0, 0]])) ** 2)
        found = tape.gradient(loss, [*tables, *own])
        assert all(isinstance(each, tf.IndexedSlices) for each in found[:2])
        return [tf.convert_to_tensor(each) for each in found]

    for found in gradients():
        assert np.isfinite(found).all() and np.abs(found).max() > 0


def test_attention_by_hand(embeddings: FeatureEmbeddings) -> None:
    column = ids(embeddings)
    layer = ENCODERS["attention"].build([column], HistoryConfig(encoder="attention", heads=1), 0)
    rows, keys = table(embeddings).astype(float), np.eye(column.width)
    query, ages = np.linspace(-20, 20, column.width), np.array([0.5, 0.0, -1.0, 0.0])
    layer.keys.assign(keys)
    layer.queries.assign(query[:, None])
    layer.ages.assign(ages[:, None])
    items = rows[[3, 1, 4]]  # of the rows 1, 2 and 4, oldest first
    logits = np.tanh(items) @ query + ages[[2, 1, 0]]
    weights = np.exp(logits) / np.exp(logits).sum()
    output = layer(read([[1, 2, 4, 0]])).numpy()[0]
    np.testing.assert_allclose(output, weights @ items, rtol=1e-4, atol=1e-6)


def test_an_option_of_another_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="heads is read by encoder 'attention' alone"):
        HistoryConfig(heads=3)
    assert HistoryConfig(encoder="attention", heads=3).heads == 3


def test_an_option_that_is_no_field_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "new", Encoder("a.b:C", "something", options=("depth",)))
    with pytest.raises(NotImplementedError, match="'new' reads the option 'depth', which is no"):
        HistoryConfig()
