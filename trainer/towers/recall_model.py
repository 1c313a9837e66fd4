"""The recall model: two towers, the retrieval task and self-supervision of the item tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.base import replicas
from trainer.base.keras2 import tf, tfrs
from trainer.config.sections import TrainerSections
from trainer.data.item_table import ItemTable
from trainer.losses.retrieval_task import RetrievalTask
from trainer.negatives.build import configured
from trainer.negatives.known_items import KnownItems
from trainer.negatives.momentum import MomentumTower
from trainer.ssl.task import SelfSupervisedTask
from trainer.towers.popularity_coordinate import COORDINATE, PopularityCoordinate
from trainer.towers.towers import ItemTower, QueryTower

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
        known_items: KnownItems | None = None,
    ) -> None:
        """Sets the model up.

        Args:
          config: sections `features`, `towers`, `prior`, `loss`, `negatives`, `ssl`,
            `data.reward_weights` and `seed` are read.
          item_table: the catalogue.
          sizes: rows of each embedding table.
          relatedness: `[k, k]` mutual information of the maskable features, for correlated masks.
          known_items: of the users, for `negatives.known_positives: remove`.
        """
        super().__init__(name="recall")
        features = config.feature_list
        self.preference_dim = int(config.towers.dim)
        self.dim = self.preference_dim + bool(config.towers.popularity or config.prior)
        self._seed, self._reward_weights = config.seed, config.data.reward_weights
        self._item_table = item_table
        self.item_tower = ItemTower(features, sizes, config.towers, seed=config.seed)
        self.query_tower = QueryTower(
            features, sizes, config.towers, self.item_tower, item_table, seed=config.seed
        )
        self._known_items = known_items
        self._explicit = config.negatives.explicit
        self._popularity, self._learns_popularity = None, bool(config.towers.popularity)
        if config.towers.popularity or config.prior:
            learned = config.towers.popularity
            self._popularity = PopularityCoordinate(
                learned.strength if learned else 1.0,
                config.pseudo_events,
                config.loss.temperature,
                item_table,
            )
        self.prior_beta = tf.Variable(
            config.prior.beta if config.prior else 0.0, trainable=False, name="prior_beta"
        )
        """Weight of log P that serving adds to what the query tower learned."""
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
            self._served_queries, reduce_retracing=True, autograph=False
        )
        # All variables exist from here on, so that they can be restored before the first step.
        self.item_tower.create_projection()
        self.query_tower.create_projection()
        trained_dim = self.preference_dim + self._learns_popularity
        self.negatives = configured(
            config, item_table, trained_dim, self._momentum_tower(config, sizes)
        )
        self.main_task = RetrievalTask(
            config.loss,
            num_items=item_table.num_items,
            hardest=config.negatives.hardest,
            negatives=self.negatives,
        )

    def _momentum_tower(
        self, config: TrainerSections, sizes: Mapping[str, int]
    ) -> MomentumTower | None:
        memory = config.negatives.memory
        if memory is None or memory.momentum is None:
            return None

        def untrained(create: Any, **options: Any) -> Any:
            # Else the optimizer would keep an accumulator of every one of them.
            return create(**{**options, "trainable": False})

        with tf.variable_creator_scope(untrained):
            follower = ItemTower(config.feature_list, sizes, config.towers, name="item_momentum")
            follower.create_projection()
        return MomentumTower(self.item_tower, follower, memory.momentum)

    @property
    def item_table(self) -> ItemTable:
        """The catalogue that the model was built on."""
        return self._item_table

    def draw_from(self, counts: NDArray[np.int64]) -> None:
        """Takes `[N + 1]` counts of the targets of a pass that is not the whole log; before the first step.

        Sampling probabilities and popularity coordinate then speak of the pass. Streamed
        probabilities are of the whole stream, in whose place the coordinate keeps the whole log.
        """
        self.negatives.draw_from(counts)
        if self._popularity is not None and self.negatives.frequency is None:
            self._popularity.train_on(counts)

    def compute_loss(self, inputs: Features, training: bool = False) -> tf.Tensor:
        """The loss of a batch; see `losses_of`."""
        return self.losses_of(inputs, tf.constant(0, tf.int64), training)["loss"]

    def losses_of(
        self, batch: Features, step: tf.Tensor, training: bool = True
    ) -> dict[str, tf.Tensor]:
        """The parts of the loss.

        Args:
          batch: query features `[B]` or `[B, n]`, `history [B, L]`, `item [B]` rows and `reward
            [B]`; in a replica of several, its part of them.
          step: number of the training step; repeating a step repeats its dropout, masks and drawn
            items.
          training: whether dropout is on.

        Returns:
          Scalars `loss`, `main_loss` and, with self-supervision, `ssl_loss`; in a replica of
          several, what it adds to the loss of the whole batch.
        """
        batch = {name: _on_device(values) for name, values in batch.items()}
        rows = batch["item"]
        seeds = tf.random.experimental.stateless_split([self._seed, tf.cast(step, tf.int32)], 5)
        of_queries, of_items = (replicas.own_seed(seed) for seed in tf.unstack(seeds[:2]))
        queries = self.query_tower(batch, training=training, seed=of_queries)
        embedded = self.negatives.rows(rows, seeds[3])
        features = self._item_table.gather(embedded)
        items = self._trained_items(embedded, features, training, of_items)
        main = self.main_task(
            queries,
            items,
            sample_weight=batch["reward"] if self._reward_weights else None,
            candidate_ids=embedded,
            groups=batch.get("user_row"),
            known_mask=lambda every: self._known(batch, every),
            training=training,
            step=step,
            seed=seeds[4],
            **self._refused(batch, training, of_items),
        )
        if self.ssl_task is None:
            return replicas.part_of_mean({"loss": main, "main_loss": main})
        drawn = self._item_table.uniform_rows(self._ssl_batch, seeds[2])
        # Without dropout: the two views differ by their masks alone.
        own = self.ssl_task(self._item_table.gather(drawn), item_tower=self.item_tower, step=step)
        loss = main + self._alpha * own
        return replicas.part_of_mean({"loss": loss, "main_loss": main, "ssl_loss": own})

    def _trained_items(
        self, rows: tf.Tensor, features: Features, training: bool, seed: tf.Tensor
    ) -> tf.Tensor:
        """`[m, D]`: items as the loss sees them."""
        items = self.item_tower(features, training=training, seed=seed)
        if self._popularity is None or not self._learns_popularity:
            return items
        return self._popularity.append(items, self._popularity.trained(rows))

    def _known(self, batch: Features, rows: tf.Tensor) -> tf.Tensor | None:
        """`[B, C]`, True where the user has one of `rows [C]` in training; None where that is a negative."""
        if self._known_items is None:
            return None
        return self._known_items.mask(batch["user_row"], rows)

    def _refused(self, batch: Features, training: bool, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the users refused, embedded: arguments of the task."""
        if not self._explicit:
            return {}
        rows, flat = batch["refused"], tf.reshape(batch["refused"], [-1])
        items = self._trained_items(flat, self._item_table.gather(flat), training, seed)
        shape = tf.concat([tf.shape(rows), [items.shape[1]]], axis=0)
        return {"refused_embeddings": tf.reshape(items, shape), "refused_mask": rows != 0}

    def _served_queries(self, batch: Features) -> tf.Tensor:
        """Queries as they are served: with the weight of the popularity, learned or set."""
        queries = self.query_tower(batch)
        if self._popularity is None:
            return queries
        preference, learned = queries[:, : self.preference_dim], queries[:, self.preference_dim :]
        if not self._learns_popularity:
            learned = tf.zeros([tf.shape(preference)[0], 1])
        return tf.concat([preference, learned + self.prior_beta], axis=1)

    def _with_popularity(self, items: tf.Tensor, batch: Features) -> tf.Tensor:
        """Items as they are served; one of unknown popularity counts as one without events."""
        if self._popularity is None:
            return items
        coordinate = batch.get(COORDINATE)
        if coordinate is None:
            coordinate = tf.fill(tf.shape(items)[:1], self._popularity.unseen)
        return self._popularity.append(items, coordinate)

    @property
    def unseen_popularity(self) -> float | None:
        """The popularity coordinate of an item without events; None where vectors have none."""
        return self._popularity.unseen if self._popularity is not None else None

    def served_items(self, rows: ArrayLike, as_of: str = "now") -> dict[str, tf.Tensor]:
        """What `embed_items` takes of rows `[m]`, popular as they are at an instant (`AS_OF`)."""
        features = self._item_table.gather(rows)
        if self._popularity is not None:
            features[COORDINATE] = self._popularity.served(rows, as_of)
        return features

    def train_step(self, data: Features) -> dict[str, tf.Tensor]:
        """One step: TFRS's without its metrics, which would cost more than they tell."""
        # A function within the replica's function could not ask the other replicas.
        return self._learn_from(data) if tf.distribute.has_strategy() else self._learn(data)

    def _learn_from(self, batch: Features) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self.losses_of(batch, self.optimizer.iterations)
        variables = self.trainable_variables
        gradients = tape.gradient(losses["loss"], variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses

    @property
    def served_variables(self) -> list[tf.Variable]:
        """All that `embed_queries` and `embed_items` read."""
        weights = [*self.query_tower.variables, *self.item_tower.variables]
        return [*weights, self.prior_beta, *self.query_tower.item_variables]

    def weights_checkpoint(self) -> tf.train.Checkpoint:
        """The weights of both towers, without the optimizer: what the best evaluation keeps."""
        towers = {"query_tower": self.query_tower, "item_tower": self.item_tower}
        return tf.train.Checkpoint(**towers, **self.task_state())

    def task_state(self) -> dict[str, tf.Variable]:
        """What the main task learns beside the towers, by its name in a checkpoint."""
        log_z = self.main_task.log_z
        return {} if log_z is None else {"log_z": log_z}


def _on_device(values: tf.Tensor) -> tf.Tensor:
    """Whole numbers of a batch as int64: a GPU's kernels leave int32 in the memory of the host."""
    return tf.cast(values, tf.int64) if values.dtype == tf.int32 else values
