"""The popularity coordinate: what it adds to a score, whose popularity it is, and that preference stays apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings
from trainer.functional import popularity
from trainer.loop.build import build_model

Configure = Callable[..., TrainerSections]
TOWERS = {"dim": 8, "popularity": {"strength": 1.5, "pseudo_events": 3.0}}


def test_a_score_is_taste_plus_weighted_log_popularity(
    data_dir: Path, configure: Configure
) -> None:
    config = configure(towers=TOWERS, loss={"temperature": 0.2})
    model = build_model(config, data_dir)
    queries = query_embeddings(model, evaluation_queries(data_dir, "test").features, 64)
    table = model.item_table
    for as_of in ("validation", "test", "now"):
        items = item_embeddings(model, table, as_of=as_of)
        log_p = popularity.current(table.counts_examples, table.counts_recent[as_of], 3.0)
        cosines = queries[:, :8] @ items[1:, :8].T
        # before any step every query weighs popularity by 1: beta = bias of ones, kernel of zeros
        expected = cosines / 0.2 + 1.5 * log_p[1:]
        np.testing.assert_allclose(queries @ items[1:].T / 0.2, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(queries[:, :8], axis=1), 1, rtol=1e-5)


def test_training_sees_the_popularity_of_the_examples_and_learns_its_weight(
    data_dir: Path, configure: Configure
) -> None:
    model = build_model(configure(towers=TOWERS), data_dir)
    batch = next(iter(TrainingData(data_dir, model_config := configure(towers=TOWERS)).dataset(0)))
    rows = batch["item"]
    preference = model.item_tower(model.item_table.gather(rows))
    assert preference.shape[1] == model.preference_dim == 8
    log_p = popularity.trained(model.item_table.counts_examples)[rows.numpy()]
    queries = model.query_tower(batch).numpy()
    scores = queries[:, :8] @ preference.numpy().T / model_config.loss.temperature + log_p
    # logQ takes log P off again, all but the half example of smoothing: preference alone is left
    counts = model.item_table.counts_examples
    corrected = scores - np.log(counts[rows.numpy()] / counts.sum())
    mask = (rows.numpy()[:, None] == rows.numpy()) & ~np.eye(len(rows), dtype=bool)
    corrected[mask] = -np.inf
    log_softmax = np.diag(corrected) - np.log(np.exp(corrected).sum(axis=1))
    loss = model.losses_of(batch, tf.constant(0, tf.int64), training=False)["main_loss"]
    np.testing.assert_allclose(float(loss), -log_softmax.mean(), rtol=1e-4)
    weight = model.query_tower.get_weights()[-1].copy()
    for _ in range(3):
        model.train_step(batch)
    assert not np.array_equal(weight, model.query_tower.get_weights()[-1])


def test_a_pass_over_some_events_counts_them_in_coordinate_and_probability_alike(
    data_dir: Path, configure: Configure
) -> None:
    """An item drawn once among 200 examples, which has 3 of 1,000 in the whole log or 900."""
    drawn = np.zeros(65, np.int64)
    drawn[[1, 2, 3]] = 150, 49, 1
    batch = next(iter(TrainingData(data_dir, configure(towers=TOWERS)).dataset(0)))
    rows = tf.constant(np.resize([1, 2, 3], len(batch["item"])), tf.int32)
    batch = {**batch, "item": rows}
    model = build_model(configure(towers=TOWERS), data_dir)
    model.draw_from(drawn)
    # log((n + 1/2) / 200) in the coordinate, log(n / 200) as the probability: what is left is at
    # most log(1.5) = 0.41, for the item seen once.
    left = np.resize(np.log([150.5 / 150, 49.5 / 49, 1.5 / 1]), len(rows))
    preference = model.item_tower(model.item_table.gather(rows)).numpy()
    queries = model.query_tower(batch).numpy()[:, :8]
    corrected = queries @ preference.T / configure(towers=TOWERS).loss.temperature + left
    corrected[(rows.numpy()[:, None] == rows.numpy()) & ~np.eye(len(rows), dtype=bool)] = -np.inf
    expected = np.log(np.exp(corrected).sum(axis=1)) - np.diag(corrected)
    loss = model.losses_of(batch, tf.constant(0, tf.int64), training=False)["main_loss"]
    np.testing.assert_allclose(float(loss), expected.mean(), rtol=1e-4)
    # What is served stays the popularity at an instant, whatever a pass drew.
    served = item_embeddings(build_model(configure(towers=TOWERS), data_dir), model.item_table)
    np.testing.assert_allclose(
        item_embeddings(model, model.item_table)[:, -1], served[:, -1], rtol=1e-6
    )


def test_where_probabilities_are_streamed_the_coordinate_stays_that_of_the_log(
    data_dir: Path, configure: Configure
) -> None:
    streamed = {"probabilities": "streamed", "frequency": {"buckets": 512}}
    config = configure(towers=TOWERS, loss=streamed)
    model = build_model(config, data_dir)
    batch = next(iter(TrainingData(data_dir, config).dataset(0)))
    before = model.losses_of(batch, tf.constant(0, tf.int64), training=False)["main_loss"]
    model.draw_from(np.arange(65))
    after = model.losses_of(batch, tf.constant(0, tf.int64), training=False)["main_loss"]
    np.testing.assert_allclose(before, after)


def test_an_item_without_a_row_is_as_popular_as_the_least_popular(
    data_dir: Path, configure: Configure
) -> None:
    model = build_model(configure(towers=TOWERS), data_dir)
    cold = model.embed_items(model.item_table.gather([1, 2])).numpy()
    every = item_embeddings(model, model.item_table)[1:]
    np.testing.assert_allclose(cold[:, -1], every[:, -1].min(), rtol=1e-6)


def test_without_the_coordinate_nothing_is_added(data_dir: Path, configure: Configure) -> None:
    model = build_model(configure(towers={"dim": 8}), data_dir)
    items = item_embeddings(model, model.item_table)
    assert items.shape[1] == model.dim == model.preference_dim == 8
