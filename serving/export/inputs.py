"""What a request holds, inside the graph: checks with plain messages, raw features, histories.

TF Serving compares no shapes with the signature and lets NaN pass, so everything that matters is
asserted here.
"""

from __future__ import annotations

from typing import Any

from preprocessing.config import DataSections
from preprocessing.features import FeatureList, Kind, Side
from preprocessing.sources.key_tables import table_of
from preprocessing.transform.schema import raw_feature_spec
from serving.request_limits import SEVERAL, too_many_examples
from trainer.base.keras2 import tf

Tensors = dict[str, Any]


def input_specs(features: FeatureList) -> Tensors:
    """A spec [batch, n] for each raw column: strings, or floats for numbers and weights."""
    specs = raw_feature_spec(features)
    return {
        name: tf.TensorSpec([None, None], spec.dtype, name=name) for name, spec in specs.items()
    }


def item_key(config: DataSections) -> str | None:
    """The item feature whose values are the ids of the catalogue, None where no feature is."""
    column = table_of(config.data, Side.ITEM)[1]
    own = config.feature_list.item_columns.where(lambda f: f.kind in (Kind.ID, Kind.CATEGORICAL))
    return next((feature.name for feature in own if feature.source == column), None)


def checked(inputs: Tensors, max_batch: int) -> Tensors:
    """The same tensors, only where all are matrices of one batch size and of finite numbers.

    Args:
      inputs: by name.
      max_batch: largest batch size; memory and time of a request would know no bound without it.
    """
    names = ", ".join(inputs)
    free = {name: _of_any_shape(x) for name, x in inputs.items()}
    ranks = tf.stack([tf.rank(x) for x in free.values()])
    matrices = tf.debugging.Assert(
        tf.reduce_all(tf.equal(ranks, 2)),
        [f"expected inputs of shape [batch, n], received for {names} tensors of rank", ranks],
        summarize=len(inputs),
    )
    with tf.control_dependencies([matrices]):
        inputs = {name: _matrix(x) for name, x in free.items()}
    sizes = tf.stack([tf.shape(x)[0] for x in inputs.values()])
    same = tf.debugging.Assert(
        tf.reduce_all(tf.equal(sizes, sizes[0])),
        [f"expected the same batch size in every input, received for {names}", sizes],
        summarize=len(inputs),
    )
    few = tf.debugging.Assert(
        sizes[0] <= max_batch,
        [too_many_examples(max_batch), sizes[0], SEVERAL],
    )
    finite = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(x)),
            [
                f"{name}: expected finite numbers, received",
                x,
                "; for a missing number send an empty list",
            ],
            summarize=10,
        )
        for name, x in inputs.items()
        if x.dtype.is_floating
    ]
    with tf.control_dependencies([same, few, *finite]):
        return {name: tf.identity(x) for name, x in inputs.items()}


def checked_k(k: Any, largest: int) -> Any:
    """``k`` as a scalar, only where it is in ``1..largest``; a list of one number will do."""
    k = _of_any_shape(k)
    single = tf.debugging.Assert(
        tf.equal(tf.size(k), 1), ["k: expected a single number, received", k]
    )
    with tf.control_dependencies([single]):
        scalar = tf.reshape(k, [])
    in_range = tf.debugging.Assert(
        (scalar >= 1) & (scalar <= largest),
        [f"k: expected a number from 1 to {largest}, received", scalar],
    )
    with tf.control_dependencies([in_range]):
        return tf.identity(scalar)


def raw_features(features: FeatureList, inputs: Tensors) -> Tensors:
    """The sparse raw tensors of ``preprocessing.transform.schema`` from the request's [batch, n] tensors.

    The empty string is a missing value wherever it stands; a multi-valued feature keeps its first
    ``max_length`` values, as the readers do; weights belong to the values of the same place.
    """
    raw: Tensors = {}
    for feature in features:
        values = inputs[feature.name]
        is_number = feature.kind is Kind.NUMERIC
        present = tf.ones_like(values, tf.bool) if is_number else tf.not_equal(values, "")
        columns = {feature.name: values}
        if feature.weights_name:
            weights = inputs[feature.weights_name]
            same = tf.debugging.Assert(
                tf.reduce_all(tf.equal(tf.shape(values), tf.shape(weights))),
                [f"{feature.weights_name}: expected a weight for each of {feature.name}, shape",
                 tf.shape(values), "received", tf.shape(weights)],
            )  # fmt: skip
            with tf.control_dependencies([same]):
                columns[feature.weights_name] = tf.identity(weights)
        limit = feature.max_length if feature.kind is Kind.MULTI else None
        raw.update(_compact(columns, present, limit))
    return raw


def first_texts(texts: Any) -> Any:
    """The first text [B] of each row [B, n] that is none of the empty ones, "" without any."""
    place = tf.argmax(tf.pad(tf.cast(tf.not_equal(texts, ""), tf.int32), [[0, 0], [0, 1]]), axis=1)
    blank = tf.fill([tf.shape(texts)[0], 1], "")
    return tf.gather(tf.concat([texts, blank], axis=1), place, batch_dims=1)


def last_items(rows: Any, length: int) -> Any:
    """The last ``length`` known items of ``rows`` [B, n], [B, length]: oldest first, then zeros."""
    known = rows > 0
    place = tf.cumsum(tf.cast(known, tf.int64), axis=1) - 1
    place -= tf.maximum(tf.math.count_nonzero(known, axis=1, keepdims=True) - length, 0)
    at = tf.where(known & (place >= 0))
    target = tf.stack([at[:, 0], tf.gather_nd(place, at)], axis=1)
    shape = tf.stack([tf.shape(rows, tf.int64)[0], length])
    return tf.ensure_shape(tf.scatter_nd(target, tf.gather_nd(rows, at), shape), [None, length])


def _of_any_shape(x: Any) -> Any:
    """The tensor without its promised shape, because of which checks would be folded away."""
    return tf.compat.v1.placeholder_with_default(x, shape=None)


def _matrix(x: Any) -> Any:
    """The tensor, known to be a matrix."""
    # Not tf.ensure_shape: Grappler runs that before the checks, which have the better message.
    x = tf.identity(x)
    x.set_shape([None, None])
    return x


def _compact(columns: Tensors, present: Any, limit: int | None) -> Tensors:
    """Sparse tensors of the present values, moved to the front of their rows."""
    place = tf.cumsum(tf.cast(present, tf.int64), axis=1) - 1
    at = tf.where(present if limit is None else present & (place < limit))
    indices = tf.stack([at[:, 0], tf.gather_nd(place, at)], axis=1)
    shape = tf.shape(present, tf.int64)
    return {
        name: tf.SparseTensor(indices, tf.gather_nd(x, at), shape) for name, x in columns.items()
    }
