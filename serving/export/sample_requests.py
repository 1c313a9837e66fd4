"""Raw queries of real users and raw items, which preprocessing left in ``data/``, as requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import require
from preprocessing.features import FeatureList, Kind
from trainer.base.keras2 import tf

Query = Mapping[str, Sequence[Any]]
Arrays = dict[str, "np.ndarray[Any, Any]"]
WARMUP_FILE = "tf_serving_warmup_requests"


class Items(NamedTuple):
    """Items of the catalogue: their rows and, in the same order, their raw features."""

    rows: list[int]
    raw: list[Query]


def read_queries(data_dir: Path) -> list[Query]:
    """The raw queries: feature name or "history" to a list of values.

    Raises:
      LongtailError: there is no such file, or it is damaged.
    """
    (queries,) = _read(data_dir / "sample_queries.json", "queries")
    return queries


def read_items(data_dir: Path) -> Items:
    """Items from the head, the torso and the tail, and some without events.

    Raises:
      LongtailError: there is no such file, or it is damaged.
    """
    return Items(*_read(data_dir / "sample_items.json", "rows", "items"))


def _read(path: Path, *keys: str) -> list[list[Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [found[key] for key in keys]
    except FileNotFoundError as error:
        raise LongtailError(
            f"{path} is missing: run preprocess (python -m preprocessing.run)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LongtailError(
            f"{path}: expected JSON with {' and '.join(keys)}, received {error!r}: run preprocess again"
        ) from error


def unknown_query(features: FeatureList) -> Query:
    """A query of which nothing is known; every model answers it."""
    return {f.name: [] for f in features.query_columns}


def query_arrays(queries: Sequence[Query], features: FeatureList) -> Arrays:
    """The inputs of `embed_query` for a batch: each raw query feature and `history` [batch, n].

    Strings are padded with "", weights with 0. A missing number cannot be padded: see
    ``of_one_form``.
    """
    arrays = _columns(queries, features.query_columns)
    arrays["history"] = _strings([q.get("history", []) for q in queries])
    return arrays


def item_arrays(items: Sequence[Query], features: FeatureList, key: Any = None) -> Arrays:
    """The inputs of `embed_item`: each raw item feature [batch, n], and `item` where it is asked for.

    Args:
      items: raw; those that miss a number cannot be among others.
      features: the feature list.
      key: the id of each item, for a signature that asks for it.
    """
    arrays = _columns(items, features.item_columns)
    return arrays if key is None else {**arrays, "item": _strings([[each] for each in key])}


def _columns(rows: Sequence[Query], columns: FeatureList) -> Arrays:
    arrays: Arrays = {}
    for feature in columns:
        values = [row.get(feature.name, []) for row in rows]
        if feature.kind is Kind.NUMERIC:
            arrays[feature.name] = np.array(values, np.float32).reshape(
                len(values), -1 if values[0] else 0
            )
            continue
        arrays[feature.name] = _strings(values)
        if feature.weights_name:
            weights: np.ndarray[Any, Any] = np.zeros(arrays[feature.name].shape, np.float32)
            for at, row in enumerate(rows):
                own = row.get(feature.weights_name, [])[: weights.shape[1]]
                weights[at, : len(own)] = own
            arrays[feature.weights_name] = weights
    return arrays


def of_one_form(queries: Sequence[Query], features: FeatureList) -> list[Query]:
    """The queries that miss the same numbers as the first: those that one batch can hold."""
    numbers = [f.name for f in features.query_columns if f.kind is Kind.NUMERIC]
    forms = [[len(q.get(name, [])) for name in numbers] for q in queries]
    return [query for query, form in zip(queries, forms, strict=True) if form == forms[0]]


def no_exclusions(batch: int) -> np.ndarray[Any, Any]:
    """The input `exclude` that says none."""
    return np.full([batch, 1], "", object)


def write_warmup(
    path: Path,
    model_name: str,
    queries: Sequence[Query],
    features: FeatureList,
    item_id: str,
    signatures: Mapping[str, Any],
) -> int:
    """Write the requests that a server answers before it serves the version; gives their number.

    All queries to ``serving_default``, and one request to every other signature: what a server
    cannot run (ScaNN on a stock server) then keeps the old version serving, and no first request
    pays for the set-up.

    Args:
      path: the file, ``assets.extra/tf_serving_warmup_requests``.
      model_name: in the requests.
      queries: raw.
      features: the feature list.
      item_id: an item of the catalogue.
      signatures: concrete functions by name, whose inputs give the dtypes.
    """
    predict_pb2 = require("tensorflow_serving.apis.predict_pb2", "serving")
    prediction_log_pb2 = require("tensorflow_serving.apis.prediction_log_pb2", "serving")
    written = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, arrays in _warmup_requests(queries, features, item_id, signatures):
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = model_name, name
            dtypes = {
                s.name: s.dtype for s in signatures[name].structured_input_signature[1].values()
            }
            for key, values in arrays.items():
                request.inputs[key].CopyFrom(
                    tf.make_tensor_proto(values, dtypes[key], shape=values.shape)
                )
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
            written += 1
    return written


def _warmup_requests(
    queries: Sequence[Query], features: FeatureList, item_id: str, signatures: Mapping[str, Any]
) -> Iterator[tuple[str, Arrays]]:
    nothing = no_exclusions(1)
    for query in queries:
        yield "serving_default", {**query_arrays([query], features), "exclude": nothing}
    first = query_arrays(queries[:1], features)
    yield "recommend", {**first, "exclude": nothing, "k": np.array(1, np.int32)}
    yield "embed_query", first
    yield "similar_items", {"item": np.array([[item_id]], object)}
    specs = signatures["embed_item"].structured_input_signature[1].values()
    empty = {
        s.name: np.zeros([1, 0], np.float32) if s.dtype.is_floating else nothing for s in specs
    }
    for feature in features.item_columns:
        if feature.weights_name:
            empty[feature.weights_name] = np.zeros([1, 1], np.float32)
    yield "embed_item", empty


def _strings(rows: Sequence[Sequence[Any]]) -> np.ndarray[Any, Any]:
    """[batch, n], padded with "" and of at least one column: [[""]] says none."""
    matrix = np.full([len(rows), max(1, *map(len, rows))], "", object)
    for at, row in enumerate(rows):
        matrix[at, : len(row)] = row
    return matrix
