"""Requests that a server answered, as examples: what training data are compared with."""

from __future__ import annotations

import glob
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import reachable
from preprocessing.features import FeatureList
from preprocessing.sources.key_rows import KeyRows
from preprocessing.transform.schema import raw_feature_spec
from trainer.base.keras2 import tf
from trainer.data.catalogue import Catalogue
from trainer.data.vocabulary import open_transform

MAX_REQUESTS = 100_000
"""Of the newest file on; enough for a distribution."""
_BATCH = 4_096
Query = dict[str, list[Any]]


def log_files(pattern: str) -> list[Path]:
    """The files of a pattern, in a mounted bucket too.

    Raises:
      LongtailError: there is none.
    """
    paths = sorted(map(Path, glob.glob(str(reachable(pattern)))))
    if not paths:
        raise LongtailError(
            f"pipeline.serving_log: expected JSON lines of requests in {pattern}, found no file"
        )
    return paths


def read_requests(pattern: str) -> list[Query]:
    """The instances of JSON lines, as they were sent to ``:predict``; from the newest file on.

    Raises:
      LongtailError: no file matches, or a line is no JSON object.
    """
    paths = sorted(log_files(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    queries = list(itertools.islice((q for path in paths for q in _lines(path)), MAX_REQUESTS))
    if not queries:
        raise LongtailError(
            f"pipeline.serving_log: expected JSON lines of requests in {pattern}, found none in "
            f"{len(paths)} files"
        )
    return queries


def _lines(path: Path) -> Iterator[Query]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                instance = dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise LongtailError(
                    f"{path}, line {number}: expected a JSON object of query features, received "
                    f"{line.strip()[:80]!r}"
                ) from error
            yield {k: v if isinstance(v, list) else [v] for k, v in instance.items()}


def as_examples(queries: list[Query], data_dir: Path, features: FeatureList) -> pa.RecordBatch:
    """The transformed columns that a training example of each query would have.

    Args:
      queries: raw.
      data_dir: whose transform graph and catalogue translate them.
      features: the feature list.
    """
    graph = open_transform(data_dir, "query").transform_features_layer()
    specs = raw_feature_spec(features.query_columns)
    items = KeyRows(Catalogue.read(data_dir).keys.cast(pa.large_string()).combine_chunks())
    columns: dict[str, list[list[Any]]] = {}
    for start in range(0, len(queries), _BATCH):
        part = queries[start : start + _BATCH]
        raw = {
            name: tf.ragged.constant(
                [_present(query.get(name, [])) for query in part], spec.dtype, ragged_rank=1
            ).to_sparse()
            for name, spec in specs.items()
        }
        for name, values in graph(raw).items():
            columns.setdefault(name, []).extend(_rows(values))
        columns.setdefault("history", []).extend(_histories(part, items, features.history_length))
    return pa.RecordBatch.from_pydict(columns)


def _histories(queries: list[Query], items: KeyRows, length: int) -> list[list[int]]:
    """Rows of the last `length` known items of each query."""
    # What JSON can write and UTF-8 cannot, half a surrogate, is no item's key.
    keys = [
        [str(key).encode(errors="replace").decode() for key in _present(query.get("history", []))]
        for query in queries
    ]
    flat = pa.array(itertools.chain.from_iterable(keys), pa.large_string())
    rows = np.split(items.find(flat) + 1, np.cumsum([len(each) for each in keys])[:-1])
    return [each[each > 0][-length:].tolist() if length else [] for each in rows]


def _present(values: list[Any]) -> list[Any]:
    return [value for value in values if value not in ("", None)]


def _rows(values: Any) -> list[list[Any]]:
    if isinstance(values, tf.SparseTensor):
        values = tf.RaggedTensor.from_sparse(values)
    rows: list[Any] = (
        values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()
    )
    return [row if isinstance(row, list) else [row] for row in rows]
