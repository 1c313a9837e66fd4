"""The tables of items and users in canonical form: a key and raw features, each key once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.config import DataConfig, TableConfig
from preprocessing.features import FeatureList, Side
from preprocessing.sources.columns import column_of, raw_features
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.scalars import key_reasons, keys, reading, strings

KEY = {Side.ITEM: "item", Side.QUERY: "user"}
PLACE = UNIT, NUMBER, LINE = "_unit", "_number", "_line"
"""Where a row comes from; a feature's name begins with a letter."""


def table_of(data: DataConfig, side: Side) -> tuple[TableConfig | None, str]:
    """Where the table of items or users lies, and its key column."""
    if side is Side.ITEM:
        return data.items, data.item_key or data.columns.item
    return data.users, data.user_key or data.columns.user


def side_columns(data: DataConfig, side: Side, features: FeatureList) -> list[str]:
    """The source columns that are read."""
    own = [table_of(data, side)[1], *(data.item_title if side is Side.ITEM else [])]
    for feature in features.of(side):
        if feature in features.query_columns or side is Side.ITEM:
            own += [feature.source, feature.weights_column or feature.source]
    return list(dict.fromkeys(own))


def canonical(
    rows: Rows, data: DataConfig, side: Side, features: FeatureList, outcomes: RowOutcomes
) -> pa.RecordBatch:
    """Key (large_string), title of items, raw feature columns and the place of the rows that are kept."""
    columns = features.item_columns if side is Side.ITEM else features.query_columns.of(Side.QUERY)
    batch = rows.batch
    name = table_of(data, side)[1]
    with reading(rows.path, name, f"key of {KEY[side]}s"):
        key, faults = keys(column_of(batch, name))
    arrays: dict[str, pa.Array] = {KEY[side]: key}
    if side is Side.ITEM:
        arrays["title"] = _titles(rows, data.item_title) if data.item_title else key
    raw = raw_features(batch, columns, rows.path)
    arrays |= raw.columns
    arrays[UNIT] = pa.array(np.full(len(key), rows.ordinal), pa.int32())
    arrays[NUMBER] = pa.array(rows.numbers, pa.int64())
    arrays[LINE] = (
        pa.array(rows.lines, pa.int64())
        if rows.lines is not None
        else pa.nulls(len(key), pa.int64())
    )
    rejected = {**key_reasons(KEY[side], faults), **raw.rejected}
    keep = outcomes.settle(rows, rejected, noted=raw.noted)
    whole = pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
    kept = whole.filter(pa.array(keep))
    outcomes.observe(columns, kept)
    return kept


def _titles(rows: Rows, columns: list[str]) -> pa.Array:
    """The columns joined by commas, on one line and without gaps."""
    parts = []
    for name in columns:
        with reading(rows.path, name, "title"):
            parts.append(pc.fill_null(strings(column_of(rows.batch, name)), ""))
    joined = pc.binary_join_element_wise(*parts, pa.scalar(", ", pa.large_string()))
    for pattern, instead in ((r"[\s\x00]+", " "), (r"(, )+", ", ")):
        joined = pc.replace_substring_regex(joined, pattern, instead)
    return pc.utf8_trim(joined, ", ")


def distinct(table: pa.Table, key: str) -> pa.Table:
    """The first row of each key, in order."""
    return table.filter(pa.array(~_repeated(table[key]))).combine_chunks()


def withdraw_repeated(
    table: pa.Table, key: str, paths: Mapping[int, str], outcomes: RowOutcomes
) -> None:
    """Reject the rows that ``distinct`` drops.

    Args:
      table: key and place of the rows.
      key: name of the column.
      paths: of the units by number.
      outcomes: of the source.
    """
    for row in table.filter(pa.array(_repeated(table[key]))).to_pylist():
        line = {} if row[LINE] is None else {"line": row[LINE]}
        place = {"source": paths[row[UNIT]], "row": row[NUMBER] + 1, **line}
        outcomes.withdraw(
            f"repeated {key}", row[UNIT], row[NUMBER], {**place, "values": {key: row[key]}}
        )


def _repeated(keys: pa.ChunkedArray) -> NDArray[np.bool_]:
    codes = np.asarray(keys.combine_chunks().dictionary_encode().indices)
    repeated = np.ones(len(codes), np.bool_)
    repeated[np.unique(codes, return_index=True)[1]] = False
    return repeated
