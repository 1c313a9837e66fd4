"""The exported module: from raw values through transform graph, towers and index to item ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing.base.errors import LongtailError
from preprocessing.features import FeatureList
from serving.export.exclusion import search_without
from serving.export.inputs import (
    Tensors,
    checked,
    checked_k,
    first_texts,
    input_specs,
    last_items,
    raw_features,
)
from serving.index.interface import Index
from serving.request_limits import SEVERAL, too_many_items
from trainer.base.keras2 import tf
from trainer.towers.popularity_coordinate import COORDINATE

ITEM = "item"
"""Input that holds an id of the catalogue."""
_IDS = tf.TensorSpec([None, None], tf.string)


@dataclass(frozen=True)
class Parts:
    """What the signatures are made of.

    Attributes:
      features: the feature list.
      embed_queries: transformed query features, and `history` int32 [B, L] -> [B, D].
      embed_items: transformed item features -> [B, D].
      variables: those that the two read.
      query_transform, item_transform: layers of ``tft.TFTransformOutput.transform_features_layer``.
      ids: raw keys of the N items by row, row 0 is b"".
      index: built on the N items.
      k: items of ``serving_default`` and ``similar_items``.
      max_k: largest k of ``recommend``; never more than the catalogue holds.
      max_batch: most queries or items of one request.
      preference_dim: columns of the vectors that tell preference; one after them tells popularity.
      unseen_popularity: what it tells of an item without events; None where there is none.
      key: the item feature that holds the ids of the catalogue, None where none does.
    """

    features: FeatureList
    embed_queries: Callable[[Tensors], Any]
    embed_items: Callable[[Tensors], Any]
    variables: Iterable[Any]
    query_transform: Any
    item_transform: Any
    ids: Any
    index: Index
    k: int
    max_k: int
    max_batch: int
    preference_dim: int
    unseen_popularity: float | None = None
    key: str | None = None


class RecallModule(tf.Module):
    """Everything that the SavedModel holds.

    Requests: each raw query feature [batch, n] (strings, floats for numbers and weights), `history`
    [batch, n] item
    ids, oldest first, of which the last count, and `exclude` [batch, n] item ids. Every input has
    to be sent; "" is padding anywhere, so [[""]] says none. Unknown items are ignored in both,
    unknown users and categories go to their hashed buckets. Answers: `item_ids` [batch, k] and
    `scores` [batch, k], best first; where the catalogue ends, the id "" with the lowest finite
    float.

    Args:
      parts: see there.
      scratch: an existing folder for the list of ids, needed until the module is saved.

    Raises:
      LongtailError: an id that cannot stand on a line of its own.
    """

    def __init__(self, parts: Parts, scratch: Path) -> None:
        super().__init__(name="recall")
        # Keras layers are called, not tracked: Keras would trace and save their calls once more,
        # three quarters of the time of an export. What their calls read is tracked instead; a
        # missing piece makes saving fail, never silently.
        self._call = _Untracked(parts)
        self._tower_variables = list(parts.variables)
        self._graphs = [
            t._saved_model_loader_tracked_dict
            for t in (parts.query_transform, parts.item_transform)
        ]
        self._index = parts.index
        self._ids = tf.Variable(
            parts.ids.tolist(), trainable=False, name="item_ids", dtype=tf.string
        )
        self._rows = _row_table(parts.ids, scratch / "item_ids.txt")
        self.largest_k = min(parts.max_k, parts.index.num_items)
        # As much as serving_default may give; a few queries may always ask for all that one may.
        self.largest_answer = max(parts.max_batch * parts.k, 64 * parts.max_k)

    def signatures(self) -> dict[str, Any]:
        """The functions to save, by name of the signature."""
        features = self._call.parts.features
        # Where the model reads no history it is asked in the same words: one client fits every
        # model.
        query = {**input_specs(features.query_columns), "history": _IDS}
        search = {**query, "exclude": _IDS}
        return {
            "serving_default": _function(
                lambda **inputs: self._recommend(self._checked(inputs), self._call.parts.k), search
            ),
            "recommend": _function(self._recommend_k, {**search, "k": tf.TensorSpec([], tf.int32)}),
            "embed_query": _function(
                lambda **inputs: {"embedding": self._embed_queries(self._checked(inputs))}, query
            ),
            "embed_item": _function(self._embed_items, self._item_specs()),
            "similar_items": _function(self._similar, {ITEM: _IDS}),
        }

    def _recommend_k(self, *, k: Any, **inputs: Any) -> Tensors:
        inputs, k = self._checked(inputs), checked_k(k, self.largest_k)
        asked = k * tf.shape(inputs["exclude"])[0]
        few = tf.debugging.Assert(
            asked <= self.largest_answer,
            [too_many_items(self.largest_answer), asked, SEVERAL],
        )
        with tf.control_dependencies([few]):
            return self._recommend(inputs, tf.identity(k))

    def _recommend(self, inputs: Tensors, k: Any) -> Tensors:
        excluded = self._rows_of(inputs["exclude"])
        return self._answer(self._embed_queries(inputs), excluded, k)

    def _similar(self, *, item: Any) -> Tensors:
        item = self._checked({ITEM: item})[ITEM]
        rows = self._rows_of(item)
        single = tf.equal(tf.shape(item)[1], 1)
        one = tf.debugging.Assert(
            single,
            ["item: expected one id a row, shape [batch, 1], received shape", tf.shape(item)],
        )
        unknown = tf.boolean_mask(item, tf.equal(rows, 0))
        known = tf.debugging.Assert(
            tf.equal(tf.size(unknown), 0),
            ["item: expected ids of the catalogue, received", unknown],
            summarize=10,
        )
        with tf.control_dependencies([one, known]):
            vectors = self._index.vectors(tf.identity(rows[:, 0]))
        # Alike in preference: that an item is popular is no reason to show it beside another.
        preference = self._call.parts.preference_dim
        vectors = tf.pad(vectors[:, :preference], [[0, 0], [0, self._index.dim - preference]])
        return self._answer(vectors, rows, self._call.parts.k)

    def _answer(self, queries: Any, excluded: Any, k: Any) -> Tensors:
        scores, rows = search_without(self._index, queries, excluded, k)
        return {"item_ids": tf.gather(self._ids, rows), "scores": scores}

    def _embed_queries(self, inputs: Tensors) -> Any:
        features = self._call.parts.features
        columns = features.query_columns
        dense = _dense(columns, self._call.parts.query_transform(raw_features(columns, inputs)))
        if features.history_length:
            rows = last_items(self._rows_of(inputs["history"]), features.history_length)
            dense["history"] = tf.cast(rows, tf.int32)
        return self._call.parts.embed_queries(dense)

    def _item_specs(self) -> Tensors:
        """The raw item features, and the item's id where no feature holds it and it counts."""
        parts = self._call.parts
        extra = {} if parts.unseen_popularity is None or parts.key else {ITEM: _IDS}
        return {**input_specs(parts.features.item_columns), **extra}

    def _embed_items(self, **inputs: Any) -> Tensors:
        """What the index holds of an item; popular as one without events if it is unknown."""
        parts, columns = self._call.parts, self._call.parts.features.item_columns
        inputs = self._checked(inputs)
        dense = _dense(columns, parts.item_transform(raw_features(columns, inputs)))
        if parts.unseen_popularity is not None:
            rows = self._rows_of(first_texts(inputs[parts.key or ITEM]))
            held = self._index.vectors(tf.maximum(rows, 1))[:, parts.preference_dim]
            dense[COORDINATE] = tf.where(rows > 0, held, parts.unseen_popularity)
        return {"embedding": parts.embed_items(dense)}

    def _checked(self, inputs: Tensors) -> Tensors:
        return checked(inputs, self._call.parts.max_batch)

    def _rows_of(self, ids: Any) -> Any:
        """Rows int64 of item ids; 0 for padding and unknown ones."""
        return self._rows.lookup(ids) + 1


@dataclass(frozen=True)
class _Untracked:
    """A place that tf.Module does not look into."""

    parts: Parts


def _function(call: Callable[..., Tensors], specs: Tensors) -> Any:
    """A concrete function of keyword arguments, traced for the specs."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    return tf.function(call, autograph=False).get_concrete_function(**named)


def _dense(features: FeatureList, transformed: Tensors) -> Tensors:
    """What the towers take, as in training: [B], or lists padded with zeros to [B, max_length]."""
    dense: Tensors = {}
    for feature in features:
        for name in filter(None, (feature.name, feature.weights_name)):
            values = transformed[name]
            if feature.is_multivalued:
                values = _padded(values, feature.max_length)
            dense[name] = tf.cast(values, tf.int32) if values.dtype.is_integer else values
    return dense


def _padded(values: Any, length: int) -> Any:
    """The first ``length`` values of each row of a sparse tensor, [B, length]."""
    inside = tf.sparse.retain(values, values.indices[:, 1] < length)
    shape = tf.stack([values.dense_shape[0], length])
    dense = tf.sparse.to_dense(tf.SparseTensor(inside.indices, inside.values, shape))
    return tf.ensure_shape(dense, [None, length])


def _row_table(ids: Any, path: Path) -> Any:
    """Id -> row - 1, -1 for unknown ones."""
    # By a file: as constants the ids of a large catalogue would swell the graph beyond its limit.
    lines = ids[1:]
    bad = next((key for key in lines if not key or b"\n" in key or b"\r" in key), None)
    if bad is not None:
        raise LongtailError(
            f"an item id {bad!r} is empty or holds a line break: expected ids on one line; clean "
            "the catalogue and preprocess again"
        )
    path.write_bytes(b"".join(key + b"\n" for key in lines))
    numbered = tf.lookup.TextFileInitializer(
        str(path),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
        vocab_size=len(lines),
    )
    return tf.lookup.StaticHashTable(numbered, default_value=-1)
