"""From a source batch of the log to canonical interactions, with the rejected rows and their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.columns import microseconds, numbers, raw_features, strings
from preprocessing.config import DataSections
from preprocessing.features import FeatureList, Side
from preprocessing.key_rows import KeyRows
from preprocessing.readers import Unit

SPLITS = ("train", "validation", "test")
REASONS = (
    "malformed row",
    "missing user",
    "missing item",
    "unknown item",
    "unparsable time",
    "reward is not a number",
    "unknown split",
    "refusal is not a number",
)
_HASH_RANGE = 1 << 20


@dataclass(frozen=True)
class Ingested:
    """What a batch became: interactions, rejected rows and how many were set aside on purpose.

    Refusals are among the interactions, told apart by the column ``refused``.
    """

    interactions: pa.RecordBatch
    rejected: list[dict[str, Any]]
    refused: int
    below_min_reward: int
    not_sampled: int


def context_features(config: DataSections) -> FeatureList:
    """The features that the log itself carries."""
    return config.feature_list.of(Side.CONTEXT)


def source_columns(config: DataSections) -> list[str]:
    """The columns of the log that are read."""
    columns = config.data.columns
    own = [columns.user, columns.item, columns.timestamp, columns.reward, columns.split]
    own.append(config.data.refused_column)
    for feature in context_features(config):
        own += [feature.source, feature.weights_column]
    return list(dict.fromkeys(name for name in own if name))


def user_hash(users: pa.Array) -> NDArray[Any]:
    """A hash of each key [rows] that is the same in every process and on every day."""
    return pd.util.hash_array(np.asarray(users.to_pandas(), dtype=object), categorize=True)


def canonical(
    batch: pa.RecordBatch, config: DataSections, item_rows: KeyRows, unit: Unit, first_row: int
) -> Ingested:
    """Check a batch and give the interactions in the form that everything later reads.

    Args:
      batch: source columns of the log.
      config: names and bounds.
      item_rows: keys of the catalogue; the item of the first has row 1.
      unit: where the batch comes from; its place among the units breaks ties of equal times.
      first_row: number of the batch's first row in the unit.

    Returns:
      Columns user (large_string), item (int32 row), time (int64 microseconds), reward (float32), order (int64),
      split (int8, -1 where the method decides later), refused (bool) and the raw context features.
    """
    columns = config.data.columns

    def field(name: str) -> pa.Array:
        return batch.column(batch.schema.get_field_index(name))

    users, items = strings(field(columns.user)), strings(field(columns.item))
    times, readable = microseconds(field(columns.timestamp), config.data.timestamp_format)
    rewards = numbers(field(columns.reward)) if columns.reward else np.ones(batch.num_rows)
    rows = item_rows.find(items) + 1
    split = (
        _split_codes(field(columns.split))
        if columns.split
        else np.full(batch.num_rows, -1, np.int8)
    )

    refused, judged = np.zeros(batch.num_rows, bool), np.ones(batch.num_rows, bool)
    if config.data.refused and config.data.refused_column:
        name = config.data.refused_column
        verdicts = rewards if name == columns.reward else numbers(field(name))
        refused, judged = verdicts <= config.data.refused.at_most, np.isfinite(verdicts)

    has_user = pc.is_valid(users).to_numpy(zero_copy_only=False)
    has_item = pc.is_valid(items).to_numpy(zero_copy_only=False)
    # Of refusals the split is not read: training carries those of its period.
    in_split = refused | (split > -2)
    checks = [has_user, has_item, rows > 0, readable, np.isfinite(rewards), in_split, judged]
    failed = np.argmin(
        np.stack([*checks, np.zeros(batch.num_rows, bool)]), axis=0
    )  # the first check that fails
    bad = failed < len(checks)
    rejected = _rejected(batch, np.flatnonzero(bad), failed, unit.path, first_row)

    low = np.zeros(batch.num_rows, bool)
    if config.data.min_reward is not None:
        low = ~bad & ~refused & (rewards < config.data.min_reward)
    keep = ~bad & ~low
    skipped = 0
    if config.preprocess.sample_users is not None:
        hashed = user_hash(pc.fill_null(users, "")) >> np.uint64(20)
        sampled = (hashed % _HASH_RANGE) < config.preprocess.sample_users * _HASH_RANGE
        skipped = int((keep & ~sampled).sum())
        keep &= sampled

    arrays = {
        "user": users,
        "item": pa.array(rows, pa.int32()),
        "time": pa.array(times, pa.int64()),
        "reward": pa.array(rewards, pa.float32()),
        "order": pa.array((unit.ordinal << 40) + first_row + np.arange(batch.num_rows), pa.int64()),
        "split": pa.array(split, pa.int8()),
        "refused": pa.array(refused),
        **raw_features(batch, context_features(config)),
    }
    whole = pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
    return Ingested(
        whole.filter(pa.array(keep)), rejected, int((keep & refused).sum()), int(low.sum()), skipped
    )


def _split_codes(column: pa.Array) -> NDArray[Any]:
    """0, 1, 2 for train, validation, test; -2 for anything else."""
    names = pc.utf8_lower(pc.fill_null(strings(column), ""))
    names = pc.replace_with_mask(
        names,
        pc.is_in(names, pa.array(["valid", "val"], pa.large_string())),
        pa.scalar("validation", pa.large_string()),
    )
    return (
        pc.fill_null(pc.index_in(names, pa.array(SPLITS, pa.large_string())), -2)
        .to_numpy(zero_copy_only=False)
        .astype(np.int8)
    )


def _rejected(
    batch: pa.RecordBatch, bad: NDArray[Any], failed: NDArray[Any], origin: str, first_row: int
) -> list[dict[str, Any]]:
    if not len(bad):
        return []
    values = batch.take(pa.array(bad)).to_pylist()
    return [
        {
            "reason": REASONS[failed[at] + 1],
            "source": origin,
            "row": int(first_row + at),
            "values": row,
        }
        for at, row in zip(bad, values, strict=True)
    ]
