"""From rows of the log to canonical interactions, each row with its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.config import DataSections
from preprocessing.features import FeatureList, Side
from preprocessing.log import events
from preprocessing.sources.columns import column_of, raw_features
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.scalars import key_reasons, keys, numbers, reading, strings
from preprocessing.sources.times import microseconds

SPLITS = ("train", "validation", "test")
_HASH_RANGE = 1 << 20


def context_features(config: DataSections) -> FeatureList:
    """The features that the log itself carries."""
    return config.feature_list.of(Side.CONTEXT)


def source_columns(config: DataSections) -> list[str]:
    """The columns of the log that are read."""
    columns = config.data.columns
    own = [columns.user, columns.item, columns.timestamp, columns.reward, columns.split]
    own += [config.data.refused_column, *events.columns_of(config.data)]
    for feature in context_features(config):
        own += [feature.source, feature.weights_column]
    return list(dict.fromkeys(name for name in own if name))


def user_hash(users: pa.Array) -> NDArray[Any]:
    """A hash of each key [rows] that is the same in every process and on every day."""
    return pd.util.hash_array(np.asarray(users.to_pandas(), dtype=object), categorize=True)


def canonical(
    rows: Rows, config: DataSections, item_rows: KeyRows, outcomes: RowOutcomes
) -> pa.RecordBatch:
    """Check rows of the log and give the interactions in the form that everything later reads.

    Args:
      rows: source columns of the log; their place in it breaks ties of equal times.
      config: names and bounds.
      item_rows: keys of the catalogue; the item of the first has row 1.
      outcomes: counts what becomes of each row.

    Returns:
      Of the rows that are kept: user (large_string), item (int32 row), time (int64 microseconds), reward (float32),
      order (int64), split (int8, -1 where the method decides later), refused (bool) and the raw context features.

    Raises:
      LongtailError: a column is of a type that cannot be read as what it is.
    """
    rows = events.without_unlisted(rows, config.data, outcomes)
    columns, batch = config.data.columns, rows.batch

    def read(name: str, role: str, function: Callable[..., Any], *more: Any) -> Any:
        with reading(rows.path, name, role):
            return function(column_of(batch, name), *more)

    users, user_faults = read(columns.user, "key of a user", keys)
    items, item_faults = read(columns.item, "key of an item", keys)
    settings = config.data.timestamp_format, config.data.timestamp_unit or "s"
    times, readable = read(columns.timestamp, "time", microseconds, *settings)
    rewards = np.ones(batch.num_rows)
    if config.data.events is not None:
        rewards = events.weights(rows, config.data)
    elif columns.reward:
        rewards, _ = read(columns.reward, "reward", numbers)
    found = item_rows.find(items) + 1
    split = np.full(batch.num_rows, -1, np.int8)
    if columns.split:
        split = read(columns.split, "split", _split_codes)

    refused, judged = np.zeros(batch.num_rows, bool), np.ones(batch.num_rows, bool)
    if config.data.refused:
        name = config.data.refused_column
        by_reward = name is None or name == columns.reward
        verdicts = rewards if by_reward else read(str(name), "refusal", numbers)[0]
        refused, judged = verdicts <= config.data.refused.at_most, np.isfinite(verdicts)
    low = np.zeros(batch.num_rows, bool)
    if config.data.min_reward is not None:
        low = ~refused & (rewards < config.data.min_reward)

    raw = raw_features(batch, context_features(config), rows.path)
    rejected = {
        **key_reasons("user", user_faults),
        **key_reasons("item", item_faults),
        "unknown item": found == 0,
        "unparsable time": ~readable,
        (events.MISSING if config.data.events else "reward is not a number"): np.isnan(rewards),
        # Of refusals the split is not read: training carries those of its period.
        "unknown split": ~refused & (split == -2),
        "refusal is not a number": ~judged,
        **raw.rejected,
    }
    if config.data.reward_weights:
        # As a weight it would train away from the positive, without bound.
        rejected["negative reward, where data.reward_weights is true"] = (
            ~refused & ~low & (rewards < 0)
        )
    set_aside: dict[str, NDArray[np.bool_]] = {}
    if config.data.events is not None:
        set_aside |= events.worthless(rows, config.data, ~refused & (rewards <= 0))
    if config.data.min_reward is not None:
        set_aside["below_min_reward"] = low
    if config.preprocess.sample_users is not None:
        hashed = user_hash(pc.fill_null(users, "")) >> np.uint64(20)
        set_aside["not_sampled"] = (
            hashed % _HASH_RANGE
        ) >= config.preprocess.sample_users * _HASH_RANGE
    keep = outcomes.settle(rows, rejected, set_aside, raw.noted)

    arrays = {
        "user": users,
        "item": pa.array(found, pa.int32()),
        "time": pa.array(times, pa.int64()),
        "reward": pa.array(rewards, pa.float32()),
        "order": pa.array(rows.order, pa.int64()),
        "split": pa.array(split, pa.int8()),
        "refused": pa.array(refused),
        **raw.columns,
    }
    whole = pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
    kept = whole.filter(pa.array(keep))
    outcomes.observe(context_features(config), kept)
    return kept


def _split_codes(column: pa.Array) -> NDArray[Any]:
    """0, 1, 2 for train, validation, test; -2 for anything else."""
    names = pc.utf8_trim_whitespace(pc.utf8_lower(pc.fill_null(strings(column), "")))
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
