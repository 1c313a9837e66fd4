"""The recall model: two towers, the retrieval task and self-supervision of the item tower."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.errors import LongtailError
from preprocessing.features import FeatureList
from trainer.config import TrainerSections
from trainer.functional.logq import log_probability_per_draw
from trainer.item_table import ItemTable
from trainer.keras_gate import tf, tfrs
from trainer.optimizer import SparseAdagrad
from trainer.popularity import COORDINATE, Popularity
from trainer.retrieval_task import RetrievalTask
from trainer.ssl_task import SelfSupervisedTask
from trainer.towers import ItemTower, QueryTower
from trainer.vocabulary import table_sizes

BEST_WEIGHTS = Path("best") / "weights"
Features = Mapping[str, tf.Tensor]


class RecallModel(tfrs.Model):
    """L = L_main + alpha L_self.

    A batch names its items by row; their features are gathered from the item table inside the
    graph. Self-supervision draws its items uniformly from the same table, so that the tail teaches
    as much as the head.
    """

    def __init__(
        self,
        config: TrainerSections,
        item_table: ItemTable,
        sizes: Mapping[str, int],
        relatedness: Any = None,
    ) -> None:
        """Sets the model up.

        Args:
          config: sections `features`, `towers`, `loss`, `ssl`, `data.reward_weights` and `seed` are
            read.
          item_table: the catalogue.
          sizes: rows of each embedding table.
          relatedness: `[k, k]` mutual information of the maskable features, for correlated masks.
        """
        super().__init__(name="recall")
        features = config.feature_list
        self.taste_dim = int(config.towers.dim)
        self.dim = int(config.towers.dim) + bool(config.towers.popularity)
        self._seed, self._reward_weights = config.seed, config.data.reward_weights
        self._has_dropout = bool(config.towers.dropout or config.towers.feature_dropout)
        self._item_table = item_table
        self.item_tower = ItemTower(features, sizes, config.towers, seed=config.seed)
        self.query_tower = QueryTower(
            features, sizes, config.towers, self.item_tower, item_table, seed=config.seed
        )
        self.main_task = RetrievalTask(
            temperature=config.loss.temperature,
            remove_accidental_hits=config.loss.remove_accidental_hits,
            log_q=config.loss.log_q == "exact",
        )
        examples = item_table.counts_examples
        self._log_q = log_probability_per_draw(examples, max(int(examples.sum()), 1))
        self._popularity = None
        if config.towers.popularity:
            self._popularity = Popularity(
                config.towers.popularity, config.loss.temperature, item_table
            )
        self.ssl_task: SelfSupervisedTask | None = None
        if config.ssl.enabled:
            self._alpha, self._ssl_batch = config.ssl.alpha, config.ssl.batch_size
            self.ssl_task = SelfSupervisedTask(
                config.ssl.augmentation,
                features.maskable.names,
                temperature=config.ssl.temperature,
                mask_rate=config.ssl.mask_rate,
                mutual_information=relatedness,
                seed=config.seed,
            )
        # Keras traces the body of its loop of steps twice; a function of its own is traced once. No
        # Python branch depends on a tensor, so that nothing is left for AutoGraph to convert.
        self._learn = tf.function(self._learn_from, autograph=False)
        # Traced once and kept: a new tf.function an evaluation would trace anew each time.
        self.embed_items = tf.function(
            lambda batch: self._with_popularity(self.item_tower(batch), batch),
            reduce_retracing=True,
            autograph=False,
        )
        self.embed_queries = tf.function(
            lambda batch: self.query_tower(batch), reduce_retracing=True, autograph=False
        )
        # All variables exist from here on, so that they can be restored before the first step.
        self.item_tower.create_projection()
        self.query_tower.create_projection()

    @property
    def item_table(self) -> ItemTable:
        """The catalogue that the model was built on."""
        return self._item_table

    def compute_loss(self, inputs: Features, training: bool = False) -> tf.Tensor:
        """The loss of a batch; see `losses_of`."""
        return self.losses_of(inputs, tf.constant(0, tf.int64), training)["loss"]

    def losses_of(
        self, batch: Features, step: tf.Tensor, training: bool = True
    ) -> dict[str, tf.Tensor]:
        """The parts of the loss.

        Args:
          batch: query features `[B]` or `[B, n]`, `history [B, L]`, `item [B]` rows and `reward
            [B]`.
          step: number of the training step; repeating a step repeats its dropout, masks and drawn
            items.
          training: whether dropout is on.

        Returns:
          Scalars `loss`, `main_loss` and, with self-supervision, `ssl_loss`.
        """
        rows = batch["item"]
        seeds = tf.random.experimental.stateless_split([self._seed, tf.cast(step, tf.int32)], 3)
        queries = self.query_tower(batch, training=training, seed=seeds[0])
        items = self.item_tower(self._item_table.gather(rows), training=training, seed=seeds[1])
        if self._popularity is not None:
            items = self._popularity.append(items, self._popularity.trained(rows))
        main = self.main_task(
            queries,
            items,
            sample_weight=batch["reward"] if self._reward_weights else None,
            candidate_log_q=tf.gather(self._log_q, rows),
            candidate_ids=rows,
        )
        if self.ssl_task is None:
            return {"loss": main, "main_loss": main}
        drawn = self._item_table.uniform_rows(self._ssl_batch, seeds[2])
        # Without dropout: the two views differ by their masks alone.
        own = self.ssl_task(self._item_table.gather(drawn), item_tower=self.item_tower, step=step)
        return {"loss": main + self._alpha * own, "main_loss": main, "ssl_loss": own}

    def _with_popularity(self, items: tf.Tensor, batch: Features) -> tf.Tensor:
        """Items as they are served; one that is not in the table counts as the least popular."""
        if self._popularity is None:
            return items
        coordinate = batch.get(COORDINATE)
        if coordinate is None:
            coordinate = tf.fill(tf.shape(items)[:1], self._popularity.least)
        return self._popularity.append(items, coordinate)

    def served_items(self, rows: tf.Tensor, as_of: str = "now") -> dict[str, tf.Tensor]:
        """What `embed_items` takes of rows `[m]`, popular as they are at an instant (`AS_OF`)."""
        features = self._item_table.gather(rows)
        if self._popularity is not None:
            features[COORDINATE] = self._popularity.served(rows, as_of)
        return features

    def train_step(self, data: Features) -> dict[str, tf.Tensor]:
        """One step: TFRS's without its metrics, which would cost more than they tell."""
        return self._learn(data)

    def _learn_from(self, batch: Features) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self.losses_of(batch, self.optimizer.iterations)
        variables = self.trainable_variables
        gradients = tape.gradient(losses["loss"], variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses

    def weights_checkpoint(self) -> tf.train.Checkpoint:
        """The weights of both towers, without the optimizer: what the best evaluation keeps."""
        return tf.train.Checkpoint(query_tower=self.query_tower, item_tower=self.item_tower)


def build_model(config: TrainerSections, data_dir: Path) -> RecallModel:
    """A new model for preprocessed data, compiled with its optimizer.

    Raises:
      LongtailError: the data are missing or do not fit the configuration.
    """
    data_dir = Path(data_dir)
    features = config.feature_list
    item_table = ItemTable.load(data_dir, features)
    correlated = config.ssl.enabled and config.ssl.augmentation == "correlated"
    relatedness = mutual_information(data_dir, features) if correlated else None
    model = RecallModel(config, item_table, table_sizes(data_dir, features), relatedness)
    optimizer = SparseAdagrad(config.train.learning_rate, config.train.initial_accumulator)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=config.train.steps_per_execution)
    return model


def load_model(config: TrainerSections, data_dir: Path, model_dir: Path) -> RecallModel:
    """The model with the weights of its best validation figure.

    Raises:
      LongtailError: there are none, or they belong to another configuration.
    """
    prefix = Path(model_dir) / BEST_WEIGHTS
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise LongtailError(
            f"expected trained weights in {prefix.parent}, found none: run train first"
        )
    model = build_model(config, data_dir)
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
            f"expected {path}, found none: run preprocess (python -m preprocessing.run)"
        ) from error
    missing = sorted(set(features.maskable.names) - set(loaded["features"]))
    if missing:
        raise LongtailError(
            f"{path}: expected all maskable features, found {loaded['features']} without "
            f"{missing}: run preprocess again"
        )
    at = [loaded["features"].index(name) for name in features.maskable.names]
    return np.asarray(loaded["mi"], np.float64)[np.ix_(at, at)]
