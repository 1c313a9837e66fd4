"""The two towers: embeddings, dropout, hidden layers, a linear output, length 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preprocessing.features import FeatureList
from trainer.base.keras2 import keras, tf
from trainer.config.sections import TowerConfig
from trainer.data.item_table import ItemTable
from trainer.functional.similarity import l2_normalize
from trainer.towers.embeddings import FeatureEmbeddings, seed_of
from trainer.towers.history.histories import Histories
from trainer.towers.history.interface import HistoryEncoder
from trainer.towers.history.registry import ENCODERS
from trainer.towers.history.sequence import SequenceColumn

Features = Mapping[str, tf.Tensor]


class _Tower(keras.layers.Layer):
    """What both towers share."""

    def __init__(
        self,
        features: FeatureList,
        sizes: Mapping[str, int],
        config: TowerConfig,
        hidden: Sequence[int],
        seed: int,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.embeddings = FeatureEmbeddings(features, sizes, seed=seed, name=f"{name}_embeddings")
        self._columns = features
        self._dropout, self._unknown_rate = config.dropout, config.unknown_rate
        layers = [(f"{name}_hidden_{i}", width, "relu") for i, width in enumerate(hidden)]
        self._layers = [
            keras.layers.Dense(
                width,
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed_of(seed, layer)),
                name=layer,
            )
            for layer, width, activation in [*layers, (f"{name}_output", config.dim, None)]
        ]

    def create_projection(self) -> None:
        """Create the weights of the dense layers; the embeddings exist since construction."""
        self._project(tf.zeros([1, self.input_width]), False, None)

    @property
    def dense_weights(self) -> list[tf.Variable]:
        """The weights behind the embeddings."""
        return [weight for layer in self._layers for weight in layer.weights]

    @property
    def input_width(self) -> int:
        """Columns of the concatenated embeddings."""
        return self.embeddings.width

    def _with_unknown(self, features: Features, seed: tf.Tensor) -> Features:
        """Trains the rows that unknown keys read, and the other features to stand without a key."""
        if not self._unknown_rate:
            return features
        replaced = {
            f.name: self.embeddings.with_unknown(f, features[f.name], self._unknown_rate, seed)
            for f in self._columns
        }
        return {**features, **replaced}

    def _project(self, inputs: tf.Tensor, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
        if training and self._dropout:
            inputs = tf.nn.experimental.stateless_dropout(inputs, self._dropout, seed)
        for layer in self._layers:
            inputs = layer(inputs)
        return l2_normalize(inputs)

    def _seeds(self, training: bool, seed: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if not training or not (self._dropout or self._unknown_rate):
            return None, None
        if seed is None:
            raise ValueError(f"{self.name}: the seed [2] is missing, by which training draws")
        return tuple(tf.unstack(tf.random.experimental.stateless_split(seed, 2)))


class ItemTower(_Tower):
    """All item features -> `[B, dim]`. Owns the embeddings that histories share."""

    def __init__(
        self,
        features: FeatureList,
        sizes: Mapping[str, int],
        config: TowerConfig,
        *,
        seed: int = 0,
        name: str = "item",
    ) -> None:
        """Sets the tower up.

        Args:
          features: all features of the run.
          sizes: rows of each embedding table.
          config: shape of the towers.
          seed: of the initial weights.
          name: of the layer.
        """
        super().__init__(features.item_columns, sizes, config, config.item_hidden, seed, name)

    def call(
        self, features: Features, training: bool = False, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Embeds items.

        Args:
          features: name -> `[B]` or `[B, n]`, as `ItemTable.gather` gives them.
          training: whether dropout and unknown keys are drawn.
          seed: `[2]` integers, wanted where any are drawn: the same seed draws the same.

        Returns:
          `[B, dim]` of length 1.
        """
        of_keys, of_values = self._seeds(training, seed)
        if training:
            features = self._with_unknown(features, of_keys)
        return self._project(self.embeddings(features), training, of_values)


class QueryTower(_Tower):
    """Query features, context and histories -> `[B, dim]`."""

    def __init__(
        self,
        features: FeatureList,
        sizes: Mapping[str, int],
        config: TowerConfig,
        item_tower: ItemTower,
        item_table: ItemTable,
        *,
        seed: int = 0,
    ) -> None:
        """Sets the tower up.

        Args:
          features: all features of the run.
          sizes: rows of each embedding table.
          config: shape of the towers.
          item_tower: whose embeddings the histories use.
          item_table: which tells the features of the items of a history.
          seed: of the initial weights.
        """
        super().__init__(features.query_columns, sizes, config, config.query_hidden, seed, "query")
        self._has_columns = len(features.query_columns) > 0
        self._popularity: keras.layers.Dense | None = None
        if config.popularity:
            self._popularity = keras.layers.Dense(
                1, kernel_initializer="zeros", bias_initializer="ones", name="query_popularity"
            )
        columns = []
        for sequence in features.sequences:
            shared = features.get(sequence.shared_with or "")
            weights = item_table.features[shared.weights_name] if shared.weights_name else None
            values = item_table.features[shared.name]
            columns.append(SequenceColumn(sequence, shared, item_tower.embeddings, values, weights))
        self._history: HistoryEncoder | None = None
        if columns:
            settings = config.history
            self._history = ENCODERS[settings.encoder].build(columns, settings, seed)

    @property
    def input_width(self) -> int:
        """Columns of the concatenated embeddings and histories."""
        return self.embeddings.width + (self._history.width if self._history is not None else 0)

    @property
    def item_variables(self) -> list[tf.Variable]:
        """What the histories read of the item table; no variables of the tower."""
        return [] if self._history is None else self._history.item_variables

    def call(
        self, features: Features, training: bool = False, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Embeds queries.

        Args:
          features: name -> `[B]` or `[B, n]` of query and context features, and `history [B, L]`
            int32 item rows, oldest first, padded with 0, where any feature is a sequence.
          training: whether dropout and unknown keys are drawn.
          seed: `[2]` integers, wanted where any are drawn.

        Returns:
          `[B, dim]` of length 1, and with `towers.popularity` one more column: the weight of
          the popularity.
        """
        of_keys, of_values = self._seeds(training, seed)
        if training:
            features = self._with_unknown(features, of_keys)
        parts = [self.embeddings(features)] if self._has_columns else []
        if self._history is not None:
            histories = Histories.read(features["history"])
            rate = self._unknown_rate if training else 0.0
            parts.append(self._history(histories, rate, of_keys))
        inputs = tf.concat(parts, axis=1)
        preference = self._project(inputs, training, of_values)
        return (
            preference
            if self._popularity is None
            else tf.concat([preference, self._popularity(inputs)], axis=1)
        )

    def create_projection(self) -> None:
        """Create the weights of the dense layers, that of the popularity too."""
        super().create_projection()
        if self._popularity is not None:
            self._popularity.build([None, self.input_width])
