"""Embeddings of the features of one side."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from preprocessing.features import Feature, FeatureList, Kind
from trainer.base.keras2 import keras, tf
from trainer.base.variable_rows import read_rows
from trainer.functional import masks
from trainer.towers.pooling import weighted_mean

_SCALE = 0.05
"""Tables start uniformly within +-0.05, Keras's own default for embeddings."""


class FeatureEmbeddings(keras.layers.Layer):
    """One table a vocabulary; the features of an example become one vector.

    * single-valued: the row of its index. Index 0 (missing, masked) is a row like any other and
      learned.
    * multi-valued and text: the mean of the values' rows, weighted where the feature has weights.
      Padding does not count; an empty list gives the row of index 0.
    * numeric without buckets: the value itself, one column.
    """

    def __init__(
        self,
        features: FeatureList,
        table_sizes: Mapping[str, int],
        *,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        """Sets the layer up.

        Args:
          features: the columns of one side, with the owners of all tables that they share.
          table_sizes: rows of each table, see `vocabulary.table_sizes`.
          seed: of the initial values, together with the name of the table.
          name: of the layer.
        """
        super().__init__(name=name)
        self._features = features
        self.tables: dict[str, tf.Variable] = {}
        """Owner -> table `[V, D]`."""
        for feature in features:
            owner = features.table_of(feature)
            if feature.is_embedded and owner not in self.tables:
                self.tables[owner] = self.add_weight(
                    name=owner,
                    shape=[table_sizes[owner], features.get(owner).dim],
                    initializer=keras.initializers.RandomUniform(
                        -_SCALE, _SCALE, seed=seed_of(seed, owner)
                    ),
                )

    @property
    def width(self) -> int:
        """Columns of the output."""
        return sum(self.dim_of(feature) for feature in self._features)

    def dim_of(self, feature: Feature) -> int:
        """Columns of one feature: the width of its table (the owner's), or 1."""
        return (
            self._features.get(self._features.table_of(feature)).dim if feature.is_embedded else 1
        )

    def table(self, feature: Feature) -> tf.Variable:
        """The table `[V, D]` of an embedded feature."""
        return self.tables[self._features.table_of(feature)]

    def rows_read(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Owner of each table -> the distinct rows `[n]` of it that a batch reads."""
        read: dict[str, list[tf.Tensor]] = {}
        for feature in self._features:
            if feature.is_embedded:
                values = tf.reshape(features[feature.name], [-1])
                read.setdefault(self._features.table_of(feature), []).append(values)
        return {owner: tf.unique(tf.concat(parts, axis=0))[0] for owner, parts in read.items()}

    def with_unknown(
        self, feature: Feature, values: tf.Tensor, rate: float, seed: tf.Tensor
    ) -> tf.Tensor:
        """Some values of a feature at random as those of keys that are not in its vocabulary.

        A single value may also become a missing one. Numbers have no vocabulary and stay.

        Args:
          feature: of this layer.
          values: `[...]` indices.
          rate: probability of each value.
          seed: `[2]` integers, the same for all features.
        """
        if not feature.is_embedded or feature.kind is Kind.NUMERIC:
            return values
        count = self._features.get(self._features.table_of(feature)).num_oov_buckets
        return masks.unknown_values(
            values,
            rate,
            tf.random.experimental.stateless_fold_in(seed, zlib.crc32(feature.name.encode())),
            first=self.table(feature).shape[0] - count,
            count=count,
            or_missing=not feature.is_multivalued,
        )

    def lookup(
        self, feature: Feature, values: tf.Tensor, weights: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Embeds one feature.

        Args:
          feature: of this layer.
          values: `[...]`, or `[..., n]` of a multi-valued feature, padded with 0.
          weights: `[..., n]` of a weighted feature.

        Returns:
          `[..., D]`.
        """
        if not feature.is_embedded:
            return tf.cast(values, tf.float32)[..., tf.newaxis]
        table = self.table(feature)
        if not feature.is_multivalued:
            return read_rows(table, values)
        counted = tf.cast(values != 0, tf.float32)
        if weights is not None:
            counted *= weights
        shape = tf.shape(values)
        width = [-1, shape[-1]]
        values, counted = tf.reshape(values, width), tf.reshape(counted, width)
        # Where nothing counts, the first value stands: padding, whatever was weighted with 0.
        values = tf.where(tf.reduce_any(counted > 0, axis=1, keepdims=True), values, 0)
        distinct, positions = tf.unique(tf.reshape(values, [-1]), out_idx=tf.int64)
        positions = tf.reshape(positions, tf.shape(values))
        means = weighted_mean(read_rows(table, distinct), positions, counted)
        return tf.reshape(means, tf.concat([shape[:-1], [table.shape[1]]], axis=0))

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds all features of this layer.

        Args:
          features: name -> `[B]` or `[B, n]`; further names are ignored.

        Returns:
          `[B, width]`, in the order of the feature list.

        Raises:
          KeyError: a feature is missing.
        """
        parts = []
        for feature in self._features:
            weights = features[feature.weights_name] if feature.weights_name else None
            part = self.lookup(feature, features[feature.name], weights)
            parts.append(tf.ensure_shape(part, [None, self.dim_of(feature)]))
        return tf.concat(parts, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Refused: the layer is rebuilt from the configuration of the run."""
        raise NotImplementedError(
            "rebuild the model with trainer.loop.build.build_model and restore its weights"
        )


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for each name, the same in every process (unlike `hash`)."""
    return (seed * 1_000_003 + zlib.crc32(name.encode())) % (1 << 31)
