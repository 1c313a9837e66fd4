"""A model from preprocessed data, new or with the weights of a finished training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.base.errors import LongtailError
from preprocessing.features import FeatureList
from trainer.base.keras2 import tf
from trainer.config.loss import LossConfig, NegativesConfig
from trainer.config.sections import SSLConfig, TrainerSections
from trainer.data.item_table import ItemTable
from trainer.data.vocabulary import table_sizes
from trainer.loop.optimizer import SparseAdagrad
from trainer.negatives.known_items import KnownItems
from trainer.towers.recall_model import RecallModel

BEST_WEIGHTS = Path("best") / "weights"


def build_model(config: TrainerSections, data_dir: Path) -> RecallModel:
    """A new model for preprocessed data, compiled with its optimizer.

    Args:
      config: the sections of the trainer.
      data_dir: finished preprocessing.

    Raises:
      LongtailError: the data are missing or do not fit the configuration.
    """
    model = _new_model(config, data_dir)
    optimizer = SparseAdagrad(config.train.learning_rate, config.train.initial_accumulator)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=config.train.steps_per_execution)
    return model


def load_model(config: TrainerSections, data_dir: Path, model_dir: Path) -> RecallModel:
    """The model with the weights of its best validation figure, for inference.

    What only training needs is not there: optimizer, frequencies, memory bank, self-supervision.

    Raises:
      LongtailError: there are none, or they belong to another configuration.
    """
    prefix = Path(model_dir) / BEST_WEIGHTS
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise LongtailError(f"there are no trained weights in {prefix.parent}: run train first")
    model = _new_model(_inference(config), data_dir)
    try:
        restored = model.weights_checkpoint().read(str(prefix))
        restored.assert_existing_objects_matched()
        restored.expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise LongtailError(
            f"the weights in {prefix.parent} do not fit the configuration or the data "
            f"({str(error).splitlines()[0]}): train again"
        ) from error
    return model


def _new_model(config: TrainerSections, data_dir: Path) -> RecallModel:
    data_dir = Path(data_dir)
    features = config.feature_list
    item_table = ItemTable.load(data_dir, features)
    correlated = config.ssl.enabled and config.ssl.augmentation == "correlated"
    relatedness = mutual_information(data_dir, features) if correlated else None
    removes = config.negatives.known_positives == "remove"
    known_items = KnownItems(data_dir) if removes else None
    return RecallModel(
        config, item_table, table_sizes(data_dir, features), relatedness, known_items
    )


def _inference(config: TrainerSections) -> TrainerSections:
    """The configuration without what only a training step reads."""
    return config.model_copy(
        update={
            "loss": LossConfig(temperature=config.loss.temperature),
            "negatives": NegativesConfig(),
            "ssl": SSLConfig(),
        }
    )


def mutual_information(data_dir: Path, features: FeatureList) -> Any:
    """`[k, k]` mutual information of the maskable features, in their order.

    Raises:
      LongtailError: `feature_mi.json` is missing or lacks a feature.
    """
    path = Path(data_dir) / "feature_mi.json"
    try:
        loaded = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LongtailError(
            f"{path} is missing: run preprocess (python -m preprocessing.run)"
        ) from error
    missing = sorted(set(features.maskable.names) - set(loaded["features"]))
    if missing:
        raise LongtailError(
            f"{path}: expected all maskable features, found {loaded['features']} without "
            f"{missing}: run preprocess again"
        )
    at = [loaded["features"].index(name) for name in features.maskable.names]
    return np.asarray(loaded["mi"], np.float64)[np.ix_(at, at)]
