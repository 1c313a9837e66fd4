"""New users and new items: the rows that unknown keys read are trained, and say what they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.loop.build import build_model
from trainer.towers.recall_model import RecallModel

Configure = Callable[..., TrainerSections]


def trained(data_dir: Path, configure: Configure, rate: float) -> RecallModel:
    config = configure(
        towers={"unknown_rate": rate}, loss={"temperature": 0.2}, train={"learning_rate": 0.1}
    )
    model = build_model(config, data_dir)
    step = tf.function(model.train_step, autograph=False)
    for batch in TrainingData(data_dir, config).dataset(0).take(60):
        step(batch)
    return model


def unknown_rows(model: RecallModel) -> dict[str, np.ndarray]:
    tables = {**model.item_tower.embeddings.tables, **model.query_tower.embeddings.tables}
    return {name: tables[name].numpy()[-1] for name in ("product", "category", "user_key")}


def test_without_a_rate_they_stay_as_they_started(data_dir: Path, configure: Configure) -> None:
    before = unknown_rows(build_model(configure(), data_dir))
    after = unknown_rows(trained(data_dir, configure, 0.0))
    for name, row in before.items():
        np.testing.assert_array_equal(after[name], row)


def test_the_default_trains_them(data_dir: Path, configure: Configure) -> None:
    rate = TrainerSections.model_fields["towers"].default.unknown_rate
    assert rate > 0
    before = unknown_rows(build_model(configure(), data_dir))
    after = unknown_rows(trained(data_dir, configure, rate))
    for name, row in before.items():
        assert np.abs(after[name] - row).max() > 0.01, name


@pytest.fixture(scope="module")
def query() -> dict[str, tf.Tensor]:
    """Nobody that training knows, of whom each group has taken two items."""
    return {
        "user_key": tf.fill([4], 49),  # 48 users, then their one hashed bucket
        "segment": tf.fill([4], 5),
        "age": tf.zeros([4]),
        "hour": tf.ones([4], tf.int32),
        "history": tf.constant([[g + 1, g + 5] for g in range(4)]),
    }


def test_new_users_are_told_by_their_history_and_new_items_by_their_features(
    data_dir: Path, configure: Configure, query: dict[str, tf.Tensor]
) -> None:
    # Planted: users of group g take items of category g. Rows of new items read an unknown id.
    model = trained(data_dir, configure, 0.2)
    table = model.item_table
    rows = np.arange(1, table.num_items + 1)
    features = table.gather(rows)
    categories = features["category"].numpy() - 1
    assert model.item_tower.embeddings.tables["product"].shape[0] == 66  # padding, 64, one bucket
    known = model.item_tower(features).numpy()
    new = model.item_tower({**features, "product": tf.fill([len(rows)], 65)}).numpy()
    queries = model.query_tower(query).numpy()
    seen = np.flatnonzero(table.counts_examples[1:])
    for items in (known[seen], new[seen]):
        best = (queries @ items.T).argsort(axis=1)[:, ::-1][:, :10]
        own = (categories[seen][best] == np.arange(4)[:, None]).mean()
        assert own > 0.6  # of all items a quarter is of the group
