"""The TF-Transform preprocessing function, made from the feature list: one for the items, one for the queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from preprocessing.features import Feature, FeatureList, Kind
from preprocessing.sources.scalars import LIMIT

Tensors = dict[str, Any]
MAX_Z = 100.0
"""Among n values the largest z-score is at most sqrt(n - 1): nothing is cut below 10,000 values."""
_ROUNDING = 1e-9
"""A deviation below this share of the mean is what rounding leaves of equal values; float32 resolves 6e-8."""
ID_WEIGHT = "id_weight"
"""Raw column of the items: training examples with this item, by which the ids' vocabulary is ordered and cut."""


def make_preprocessing_fn(
    features: FeatureList, *, weighted_ids: bool
) -> Callable[[Tensors], Tensors]:
    """The function that TF-Transform analyses and writes as a graph.

    Args:
      features: the columns of one side (items, or queries with their context).
      weighted_ids: whether the input has ``ID_WEIGHT``, the frequency of each row's id.

    Returns:
      From sparse raw tensors to: int64 [batch] for single values (0 missing, then vocabulary, then hashed buckets),
      float32 [batch] for z-scores, sparse int64 (and float32 weights) for multi-valued features.
    """

    def preprocessing_fn(inputs: Tensors) -> Tensors:
        weights = tf.reshape(tf.sparse.to_dense(inputs[ID_WEIGHT]), [-1]) if weighted_ids else None
        vocabularies: Tensors = {}
        outputs: Tensors = {}
        for feature in sorted(features, key=lambda f: f.shared_with is not None):
            raw = inputs[feature.name]
            if feature.kind is Kind.NUMERIC:
                outputs[feature.name] = _numeric(feature, raw)
                continue
            values = _tokens(raw, feature.max_length) if feature.kind is Kind.TEXT else raw
            if feature.shared_with is None:
                vocabularies[feature.name] = _vocabulary(feature, values, weights)
            owner = feature.shared_with or feature.name
            indices = tft.apply_vocabulary(
                values, vocabularies[owner], num_oov_buckets=features.get(owner).num_oov_buckets
            )
            shifted = tf.SparseTensor(indices.indices, indices.values + 1, indices.dense_shape)
            if feature.is_multivalued:
                outputs[feature.name] = shifted
                if feature.weights_name:
                    outputs[feature.weights_name] = inputs[feature.weights_name]
            else:
                outputs[feature.name] = _first(shifted, tf.constant(0, tf.int64))
        return outputs

    return preprocessing_fn


def _vocabulary(feature: Feature, values: tf.SparseTensor, weights: tf.Tensor | None) -> Any:
    """Values by falling frequency.

    Of the items only those that are trained on count, by ``weights``: a value that no training example has shares the
    hashed buckets, instead of having an untrained row of its own. An id counts as often as its item is trained on.
    """
    frequency = feature.min_frequency if feature.min_frequency > 1 else None
    if weights is not None:
        own = tf.gather(weights, values.indices[:, 0])
        is_id = feature.kind is Kind.ID
        trained = own >= float(feature.min_frequency if is_id else 1)
        values = tf.sparse.retain(values, trained)
        weights, frequency = (own[trained], None) if is_id else (None, frequency)
    return tft.vocabulary(
        values,
        top_k=feature.max_vocabulary,
        frequency_threshold=frequency,
        vocab_filename=feature.name,
        weights=weights,
    )


def _numeric(feature: Feature, raw: tf.SparseTensor) -> tf.Tensor:
    # What a request holds is checked here as the sources are by ``scalars.numbers``; NaN compares as false.
    raw = tf.sparse.retain(raw, tf.abs(raw.values) < LIMIT)
    if feature.buckets:
        bucket = tft.bucketize(raw, feature.buckets)
        shifted = tf.SparseTensor(bucket.indices, bucket.values + 1, bucket.dense_shape)
        return _first(shifted, tf.constant(0, tf.int64))
    return _first(_z_score(raw), tf.constant(0.0))


def _z_score(raw: tf.SparseTensor) -> tf.SparseTensor:
    """(x - mean) / standard deviation, at most ``MAX_Z`` from 0; 0 for a feature of one value.

    Moments in float64: squares of large float32 would overflow, and the mean of equal values would not be theirs.
    """
    values = tf.cast(raw.values, tf.float64)
    wide = tf.SparseTensor(raw.indices, values, raw.dense_shape)
    mean, variance = tft.mean(wide, output_dtype=tf.float64), tft.var(wide, output_dtype=tf.float64)
    deviation = tf.sqrt(variance)
    scores = tf.math.divide_no_nan(values - mean, deviation)
    scores = tf.where(deviation > _ROUNDING * tf.abs(mean), scores, tf.zeros_like(scores))
    return tf.SparseTensor(
        raw.indices, tf.cast(tf.clip_by_value(scores, -MAX_Z, MAX_Z), tf.float32), raw.dense_shape
    )


def _tokens(raw: tf.SparseTensor, max_length: int) -> tf.SparseTensor:
    """The first lower-case words of the text, in order."""
    text = tf.strings.lower(_first(raw, tf.constant("")), encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(text, r"[^\pL\pN]+", " "))
    first: tf.SparseTensor = words[:, :max_length].to_sparse()
    return first


def _first(values: tf.SparseTensor, default: tf.Tensor) -> tf.Tensor:
    """The first value of each row [batch], the default where there is none."""
    rows = values.dense_shape[0]
    first = tf.SparseTensor(
        values.indices, values.values, [rows, tf.maximum(values.dense_shape[1], 1)]
    )
    return tf.sparse.to_dense(first, default_value=default)[:, 0]
