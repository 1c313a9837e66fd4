"""The model: losses add up, gradients go where they should, weights come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from tests.trainer.synthetic import ITEMS
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings
from trainer.loop.build import BEST_WEIGHTS, build_model, load_model, mutual_information
from trainer.towers.recall_model import RecallModel

Configure = Callable[..., TrainerSections]
STEP = tf.constant(3, tf.int64)
SSL = {"enabled": True, "batch_size": 16, "alpha": 0.5}


@pytest.fixture(scope="module")
def batch(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tf.Tensor]:
    from tests.trainer.synthetic import make_config

    config = make_config(tmp_path_factory.mktemp("batch"))
    return next(iter(TrainingData(data_dir, config).dataset(0)))


def test_overfits_one_batch(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    model = build_model(configure(train={"learning_rate": 0.2}), data_dir)
    distinct, first = np.unique(batch["item"].numpy(), return_index=True)
    rows = {name: tf.gather(values, first) for name, values in batch.items()}
    rows = {**rows, "user_key": tf.range(1, len(distinct) + 1)}
    step = tf.function(model.train_step, autograph=False)
    before = float(model.losses_of(rows, STEP, training=False)["loss"])
    for _ in range(150):
        step(rows)
    after = float(model.losses_of(rows, STEP, training=False)["loss"])
    assert after < 0.25 * before


def test_loss_is_that_of_the_scores_by_hand(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    model = build_model(configure(), data_dir)
    queries = model.query_tower(batch).numpy().astype(np.float64)
    rows = batch["item"].numpy()
    items = model.item_tower(model.item_table.gather(rows)).numpy().astype(np.float64)
    counts = model.item_table.counts_examples
    log_q = np.log(counts[rows] / counts.sum())
    losses = []
    for i in range(len(rows)):
        scores = queries[i] @ items.T / 0.05 - log_q
        others = [j for j in range(len(rows)) if j == i or rows[j] != rows[i]]
        losses.append(np.log(np.exp(scores[others]).sum()) - scores[i])
    ours = model.losses_of(batch, STEP, training=False)["main_loss"]
    assert float(ours) == pytest.approx(np.mean(losses), rel=1e-4)


def test_ssl_adds_alpha_times_its_loss(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    model = build_model(configure(ssl=SSL), data_dir)
    parts = {name: float(value) for name, value in model.losses_of(batch, STEP).items()}
    assert parts["loss"] == pytest.approx(parts["main_loss"] + 0.5 * parts["ssl_loss"], rel=1e-5)
    plain = build_model(configure(), data_dir).losses_of(batch, STEP)
    assert float(plain["loss"]) == pytest.approx(parts["main_loss"], rel=1e-5)


def test_only_the_item_tower_learns_from_ssl(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    model = build_model(configure(ssl=SSL), data_dir)
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch, STEP)["ssl_loss"]
    variables = model.query_tower.embeddings.trainable_variables
    assert all(gradient is None for gradient in tape.gradient(loss, variables))


@pytest.mark.parametrize(
    "augmentation", ["random_mask", "value_dropout", "complementary", "correlated"]
)
def test_every_augmentation_trains(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor], augmentation: str
) -> None:
    model = build_model(configure(ssl={**SSL, "augmentation": augmentation}), data_dir)
    assert np.isfinite(float(model.train_step(batch)["ssl_loss"]))


def test_a_step_repeats_its_draws_and_another_does_not(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    towers = {"dropout": 0.3, "unknown_rate": 0.3}
    model = build_model(configure(ssl=SSL, towers=towers), data_dir)
    first = model.losses_of(batch, STEP)
    again = tf.function(model.losses_of, autograph=False)(batch, STEP)
    other = model.losses_of(batch, STEP + 1)
    for name, value in first.items():
        assert float(value) == pytest.approx(float(again[name]), rel=1e-5)
        assert float(value) != float(other[name])


def test_reward_weights(data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]) -> None:
    config = configure(data={"reward_weights": True})
    model = build_model(config, data_dir)
    once = float(model.losses_of({**batch, "reward": tf.ones([32])}, STEP)["loss"])
    twice = float(model.losses_of({**batch, "reward": 2 * tf.ones([32])}, STEP)["loss"])
    assert twice == pytest.approx(2 * once, rel=1e-5)
    plain = build_model(configure(), data_dir)
    assert float(plain.losses_of(batch, STEP)["loss"]) == pytest.approx(once, rel=1e-5)


def test_gradients_of_all_tables_are_sparse(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    model = build_model(configure(ssl=SSL), data_dir)
    tables = [
        *model.item_tower.embeddings.trainable_variables,
        *model.query_tower.embeddings.trainable_variables,
    ]
    with tf.GradientTape() as tape:
        loss = model.losses_of(batch, STEP)["loss"]
    for table, gradient in zip(tables, tape.gradient(loss, tables), strict=True):
        assert isinstance(gradient, tf.IndexedSlices), table.name


def test_rows_outside_the_batch_stay_as_they_are(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor]
) -> None:
    config = configure()
    model = build_model(config, data_dir)
    table = model.item_tower.embeddings.table(config.feature_list.get("product"))
    before = table.numpy()
    tf.function(model.train_step, autograph=False)(batch)
    touched = {0, *batch["item"].numpy(), *batch["history"].numpy().ravel()}
    still = sorted(set(range(ITEMS + 2)) - touched)
    np.testing.assert_array_equal(table.numpy()[still], before[still])
    assert (table.numpy()[batch["item"].numpy()] != before[batch["item"].numpy()]).any()


def embeddings_of(model: RecallModel, data_dir: Path) -> np.ndarray:
    queries = query_embeddings(model, evaluation_queries(data_dir, "test").features, 7)
    return np.concatenate([queries, item_embeddings(model, model.item_table, 11)])


def test_embeddings_do_not_depend_on_the_chunks(data_dir: Path, configure: Configure) -> None:
    model = build_model(configure(), data_dir)
    whole = item_embeddings(model, model.item_table)
    assert whole.shape == (ITEMS + 1, 8)
    assert not whole[0].any()
    np.testing.assert_allclose(item_embeddings(model, model.item_table, 11), whole, atol=1e-6)


def test_saved_weights_come_back(
    data_dir: Path, configure: Configure, batch: dict[str, tf.Tensor], tmp_path: Path
) -> None:
    config = configure()
    model = build_model(config, data_dir)
    model.train_step(batch)
    model.weights_checkpoint().write(str(tmp_path / BEST_WEIGHTS))
    loaded = load_model(config, data_dir, tmp_path)
    np.testing.assert_array_equal(embeddings_of(loaded, data_dir), embeddings_of(model, data_dir))


def test_weights_that_are_not_there_or_do_not_fit(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    with pytest.raises(LongtailError, match="run train first"):
        load_model(configure(), data_dir, tmp_path)
    build_model(configure(), data_dir).weights_checkpoint().write(str(tmp_path / BEST_WEIGHTS))
    with pytest.raises(LongtailError, match=r"do not fit the configuration.*train again"):
        load_model(configure(towers={"dim": 9}), data_dir, tmp_path)
    with pytest.raises(LongtailError, match=r"do not fit the configuration.*train again"):
        load_model(configure(towers={"item_hidden": [16, 16]}), data_dir, tmp_path)


def test_mutual_information_is_read_in_the_order_of_the_features(
    data_copy: Path, configure: Configure
) -> None:
    path = data_copy / "feature_mi.json"
    names = ["price", "tags", "category", "product"]
    path.write_text(json.dumps({"features": names, "mi": np.arange(16).reshape(4, 4).tolist()}))
    read: Any = mutual_information(data_copy, configure().feature_list)
    assert read[0].tolist() == [15, 14, 13, 12]  # product with product, category, tags, price
    path.write_text(json.dumps({"features": names[:2], "mi": [[0, 1], [1, 0]]}))
    with pytest.raises(LongtailError, match=r"without \['category', 'product'\]"):
        mutual_information(data_copy, configure().feature_list)
    path.unlink()
    with pytest.raises(LongtailError, match="run preprocess"):
        mutual_information(data_copy, configure().feature_list)
