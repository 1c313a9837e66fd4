"""A sample of the examples with words instead of indices: what people and data validation look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.features import Feature, FeatureList, Kind, Side
from trainer.config.sections import TrainerSections
from trainer.data.examples_io import (
    evaluation_spec,
    example_files,
    pad,
    read_columns,
    training_spec,
)
from trainer.data.item_table import ItemTable
from trainer.data.ragged import Ragged
from trainer.data.vocabulary import PADDING, open_transform

UNKNOWN = "(not in the vocabulary)"
Columns = dict[str, NDArray[Any]]


def sample(config: TrainerSections, data_dir: Path, split: str, most: int) -> pa.RecordBatch:
    """Features of queries and of their (first) targets, every n-th example of all files.

    Args:
      config: the feature list is read.
      data_dir: finished preprocessing.
      split: `train`, `validation` or `test`.
      most: examples at most.

    Returns:
      A column a feature, lists as TFDV wants them, empty where the value is missing: strings of
      categorical, multi-valued and text features, numbers, and of ids only whether they are known;
      `history length`; in train `reward`.
    """
    columns = indices(config, data_dir, split, most)
    words = Words(data_dir, config.feature_list)
    known = {feature.name: feature for feature in config.feature_list}
    arrays = {
        name: words.of(known[name], values) if name in known else _numbers(values)
        for name, values in columns.items()
    }
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def indices(config: TrainerSections, data_dir: Path, split: str, most: int) -> Columns:
    """The same with indices: `[n]`, or `[n, width]` padded with 0."""
    features, is_train = config.feature_list, split == "train"
    table = ItemTable.load(data_dir, features)
    files = example_files(data_dir, split)
    total = int(table.counts_examples.sum()) if is_train else 0
    spec = training_spec(data_dir) if is_train else evaluation_spec(data_dir)
    wanted = {*features.query_columns.names, "history", "item", "reward", "targets"}
    spec = {name: field for name, field in spec.items() if name in wanted}
    read: dict[str, Any] = read_columns(files, spec, every=max(1, -(-total // most)))
    history = read.pop("history")
    if is_train:
        rows = read.pop("item")
    else:
        targets = read.pop("targets")  # of a user who has any: splits hold no others
        rows = targets.values[targets.row_splits[:-1]]
    columns: Columns = {
        name: _dense(values) if isinstance(values, Ragged) else values
        for name, values in read.items()
    }
    if features.history_length:
        columns["history length"] = np.diff(history.row_splits)
    gathered = table.gather(rows)
    return columns | {name: gathered[name].numpy() for name in features.item_columns.names}


class Words:
    """Turns indices into the values that they stand for."""

    def __init__(self, data_dir: Path, features: FeatureList) -> None:
        self._features = features
        self._outputs = {side: open_transform(data_dir, side) for side in ("query", "item")}
        self._known: dict[str, list[str]] = {}

    def vocabulary(self, feature: Feature) -> list[str]:
        """Of the table that a feature uses, by index - 1."""
        owner = self._features.table_of(feature)
        if owner not in self._known:
            side = "item" if self._features.get(owner).side is Side.ITEM else "query"
            keys = self._outputs[side].vocabulary_by_name(owner)
            self._known[owner] = [key.decode(errors="replace") for key in keys]
        return self._known[owner]

    def of(self, feature: Feature, values: NDArray[Any]) -> pa.Array:
        """A list column."""
        if feature.kind is Kind.NUMERIC and not feature.buckets:
            return _numbers(values)
        if feature.buckets:
            names = np.array([f"quantile {i}" for i in range(1, feature.buckets + 1)], object)
        else:
            names = np.array([*self.vocabulary(feature), UNKNOWN], object)
        if feature.kind is Kind.ID:  # millions of keys say nothing; whether one is known does
            names = np.array([*["(known)"] * (len(names) - 1), UNKNOWN], object)
        values = values.reshape(len(values), -1)
        present = values >= PADDING
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        flat = names[np.minimum(values[present] - PADDING, len(names) - 1)]
        return pa.LargeListArray.from_arrays(
            pa.array(offsets, pa.int64()), pa.array(flat, pa.large_string())
        )


def _numbers(values: NDArray[Any]) -> pa.Array:
    kind = pa.float32() if values.dtype.kind == "f" else pa.int64()
    singles = pa.array(np.arange(len(values) + 1), pa.int64())
    return pa.LargeListArray.from_arrays(singles, pa.array(values).cast(kind))


def _dense(lists: Ragged) -> NDArray[Any]:
    return pad(lists, max(1, int(np.diff(lists.row_splits).max(initial=1))))
