"""From the interactions of some users to training examples and evaluation queries, with histories as of each event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.base import ragged
from preprocessing.config import DataSections
from preprocessing.features import Feature, FeatureList, Kind, Side
from preprocessing.log import dropped_items, refusals, splits
from preprocessing.log.histories import histories
from preprocessing.log.refusals import Refusals
from preprocessing.sources.columns import arrow_schema, empty_lists
from preprocessing.split_config import SplitConfig

PLACE = "place"
"""Split and partition of a row."""
TRAIN_FIELDS = ("item", "reward", "timestamp", "history", "user_row", "refused", "held_out")
QUERY_FIELDS = ("user", "history", "targets", "seen", "seen_counts")
"""What a row carries past the transform graph."""
_QUERIES_NOW = 1_000
"""Of a partition, where no split is held out: what an export is checked and measured with."""


@dataclass(frozen=True)
class Rules:
    """What the first pass over the log found out, so that partitions can be worked on alone."""

    bounds: tuple[int, int] | None
    ends: tuple[int, int, int]
    """Microseconds: start of validation, start of test, end of the log; without a split by time the last for all."""
    dropped_items: str | None = None
    """File of the items with too few training interactions, see ``dropped_items``; None where there are none."""
    end_of_training: int | None = None
    """Microseconds: the first instant after training; None where each user's training ends by itself."""

    @classmethod
    def of(cls, split: SplitConfig, bounds: tuple[int, int] | None, last: int) -> Rules:
        """Without dropped items; ``last`` is the instant of the last interaction."""
        if split.held_out == "train":
            return cls(bounds, (last, last, last), end_of_training=last + 1 if bounds else None)
        ends = (*(bounds or (last, last)), last)
        return cls(bounds, ends, end_of_training=bounds[0] if bounds else None)


@dataclass(frozen=True)
class Partition:
    """The interactions of some users, sorted by user, time and order in the log."""

    table: pa.Table
    user: NDArray[Any]
    item: NDArray[Any]
    time: NDArray[Any]
    split: NDArray[Any]
    held_out: NDArray[Any]
    """Whether an interaction is of validation or test, or would be if those were not trained on."""
    refusals: Refusals

    @property
    def training_users(self) -> NDArray[Any]:
        """The user of each training interaction [n], numbered from 0 in this partition."""
        numbers: NDArray[Any] = np.unique(
            self.user[self.split == splits.TRAIN], return_inverse=True
        )[1]
        return numbers


def sort_and_split(table: pa.Table, config: DataSections, rules: Rules) -> Partition:
    """Sort and divide the interactions of a partition, its refusals apart, and thin out what trains.

    Only training interactions are counted and only they are dropped, after the split: what is held out decides nothing
    about training, and stays. Dropped interactions have happened, so that queries know them.
    """
    part = divide(table, config, rules)
    trains = part.split == splits.TRAIN
    kept = trains & ~dropped_items.is_dropped(rules.dropped_items, part.item)
    kept &= ~splits.infrequent(part.user, kept, config.preprocess.min_user_count)
    split = np.where(trains & ~kept, splits.DROPPED, part.split)
    each = part.refusals
    known = ~dropped_items.is_dropped(rules.dropped_items, each.item)
    refused = Refusals(each.user[known], each.item[known], each.time[known])
    return replace(part, split=split, refusals=refused)


def divide(table: pa.Table, config: DataSections, rules: Rules) -> Partition:
    """Sort and divide the interactions of a partition, its refusals apart from the rest; nothing is dropped."""
    table = table.combine_chunks()
    codes = np.asarray(table["user"].combine_chunks().dictionary_encode().indices)
    order = np.lexsort((np.asarray(table["order"]), np.asarray(table["time"]), codes))
    is_refusal = np.asarray(table["refused"])[order]
    apart, order = order[is_refusal], order[~is_refusal]
    refused = Refusals(
        codes[apart],
        np.asarray(table["item"])[apart].astype(np.int64),
        np.asarray(table["time"])[apart],
    )
    table = table.take(pa.array(order)).combine_chunks()
    user, time = codes[order], np.asarray(table["time"])
    split = splits.assign(
        config.preprocess.split, rules.bounds, user, time, np.asarray(table["split"])
    )
    held_out = split > splits.TRAIN
    if config.preprocess.split.held_out == "train":
        split = np.where(held_out, splits.TRAIN, split).astype(np.int8)
    item = np.asarray(table["item"]).astype(np.int64)
    return Partition(table, user, item, time, split, held_out, refused)


def training_rows(part: Partition, config: DataSections) -> NDArray[Any]:
    """Positions [n] of the training examples, rising."""
    rows = np.flatnonzero(part.split == splits.TRAIN)
    if config.preprocess.examples == "first" and len(rows):
        pairs = np.stack([part.user[rows], part.item[rows]], axis=1)
        rows = rows[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
    return rows


def training_batch(
    part: Partition,
    users: Users,
    config: DataSections,
    rules: Rules,
    number: int,
    first_user: int = 0,
) -> pa.RecordBatch:
    """Raw query features and example fields of the training interactions of a partition.

    Args:
      part: sorted interactions.
      users: raw features.
      config: names and bounds.
      rules: of the whole log.
      number: of the partition.
      first_user: number of its first training user among those of all partitions; 0 where it is not known yet.
    """
    log = np.flatnonzero(part.split == splits.TRAIN)
    offsets, items = histories(
        part.user[log], part.item[log], part.time[log], config.feature_list.history_length
    )
    chosen = training_rows(part, config)
    at = np.searchsorted(log, chosen)
    history = ragged.take(offsets, items, at)
    user_rows = part.training_users[at]
    refused = refusals.newest(
        part.refusals,
        part.user[log],
        part.item[log],
        part.time[log],
        rules.end_of_training,
        config.preprocess.max_refused,
    )
    reward = np.asarray(part.table["reward"])[chosen]
    fields = {
        "item": ragged.singles(pa.array(part.item[chosen])),
        "reward": ragged.singles(pa.array(reward, pa.float32())),
        "timestamp": ragged.singles(pa.array(part.time[chosen] // 1_000_000)),
        "history": history,
        "user_row": ragged.singles(pa.array(first_user + user_rows, pa.int64())),
        "refused": ragged.take(*refused, user_rows),
        "held_out": ragged.singles(pa.array(part.held_out[chosen], pa.int64())),
    }
    return _batch(part, users, config, chosen, (splits.TRAIN, number), fields)


def query_batch(
    part: Partition, users: Users, config: DataSections, split: int, number: int
) -> pa.RecordBatch:
    """One query a user of the split: the history of the earlier splits, the targets, what was seen.

    Where nothing is held out, the place of validation takes what some users would ask now: without targets.
    """
    earlier = np.flatnonzero(part.split < split)  # with what training drops: it has happened
    later = np.flatnonzero(part.split == split)
    starts, sizes = splits.runs(part.user[later])
    chosen = later[starts]
    if config.preprocess.split.held_out == "train" and split == splits.VALIDATION:
        first, each = splits.runs(part.user[earlier])
        chosen = earlier[first + each - 1][:_QUERIES_NOW]
        starts = sizes = np.zeros(len(chosen), np.int64)
    codes = part.user[chosen]
    low, high = (
        np.searchsorted(part.user[earlier], codes),
        np.searchsorted(part.user[earlier], codes, side="right"),
    )
    kept = np.minimum(high - low, config.feature_list.history_length)
    past = part.item[earlier]
    seen_offsets, seen, counts = ragged.distinct(low, high - low, past)
    target_offsets, targets, _ = ragged.distinct(starts, sizes, part.item[later])
    names = part.table["user"].combine_chunks().take(pa.array(chosen)).cast(pa.large_binary())
    fields = {
        "user": ragged.singles(names),
        "history": ragged.large_list(*ragged.slices(high - kept, kept, past)),
        "targets": ragged.large_list(target_offsets, targets),
        "seen": ragged.large_list(seen_offsets, seen),
        "seen_counts": ragged.large_list(seen_offsets, counts),
    }
    return _batch(part, users, config, chosen, (split, number), fields)


class Users:
    """Raw features of the users of a partition, found by key."""

    def __init__(self, table: pa.Table | None, config: DataSections) -> None:
        self._table = table.combine_chunks() if table is not None else None
        self._key = config.data.user_key or config.data.columns.user
        self._own = {config.data.columns.user, self._key}

    def known(self, keys: pa.Array) -> int:
        """How many of some keys the table has."""
        if self._table is None:
            return 0
        of_table = self._table["user"].combine_chunks()
        return int(pc.sum(pc.is_in(keys, value_set=of_table)).as_py() or 0)

    def columns(self, keys: pa.Array, features: FeatureList) -> dict[str, pa.Array]:
        """Raw columns of the query features for each key [rows]; users without a row have missing values.

        Columns of the table are left out where it has no rows.
        """
        found = None
        if self._table is not None:
            found = pc.index_in(keys, value_set=self._table["user"].combine_chunks())
        return {
            name: column for f in features for name, column in self._column(f, keys, found).items()
        }

    def _column(
        self, feature: Feature, keys: pa.Array, found: pa.Array | None
    ) -> dict[str, pa.Array]:
        if feature.source in self._own and feature.kind in (Kind.ID, Kind.CATEGORICAL):
            return {feature.name: ragged.singles(keys.cast(pa.large_binary()))}
        names = [feature.name, feature.weights_name] if feature.weights_name else [feature.name]
        if self._table is None or found is None:
            return {}  # nobody of the partition is in the table: values are missing
        return {
            name: ragged.take_or_empty(self._table[name].combine_chunks(), found)
            for name in names
            if name
        }


def unused_fields(config: DataSections) -> set[str]:
    """Fields that the examples of a configuration do not have."""
    return {
        *(() if config.feature_list.history_length else ("history",)),
        *(() if config.data.refused else ("refused",)),
        *(() if config.preprocess.split.held_out == "train" else ("held_out",)),
    }


def passthrough_schema() -> pa.Schema:
    """Fields that ride past the transform graph, lists all of them; those of the other kind of row are empty."""
    types = {"reward": pa.float32(), "user": pa.large_binary()}
    names = dict.fromkeys((PLACE, *TRAIN_FIELDS, *QUERY_FIELDS))
    return pa.schema([(name, pa.large_list(types.get(name, pa.int64()))) for name in names])


def batch_schema(features: FeatureList) -> pa.Schema:
    """Columns of the batches that go through the query's transform graph."""
    return pa.schema([*arrow_schema(features), *passthrough_schema()])


def _batch(
    part: Partition,
    users: Users,
    config: DataSections,
    chosen: NDArray[Any],
    place: tuple[int, int],
    fields: dict[str, pa.Array],
) -> pa.RecordBatch:
    features = config.feature_list.query_columns
    keys = part.table["user"].combine_chunks().take(pa.array(chosen))
    raw = users.columns(keys, features.of(Side.QUERY))
    schema = batch_schema(features)
    rows = len(chosen)
    columns = {**fields, PLACE: ragged.large_list(np.arange(rows + 1) * 2, np.tile(place, rows))}
    for name, column in raw.items():
        columns[name] = column
    for field in schema:
        if field.name in columns:
            continue
        in_log = (
            field.name in part.table.schema.names and field.name not in passthrough_schema().names
        )
        columns[field.name] = (
            part.table[field.name].combine_chunks().take(pa.array(chosen))
            if in_log
            else empty_lists(rows, field.type.value_type)
        )
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)
