"""The tables of items and users in canonical form: a key and raw features, each key once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.columns import raw_features, strings
from preprocessing.config import DataConfig, TableConfig
from preprocessing.features import FeatureList, Side

KEY = {Side.ITEM: "item", Side.QUERY: "user"}


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
    batch: pa.RecordBatch, data: DataConfig, side: Side, features: FeatureList
) -> pa.RecordBatch:
    """Key (large_string, null where missing), title of items, and raw feature columns."""
    columns = features.item_columns if side is Side.ITEM else features.query_columns.of(Side.QUERY)
    key = strings(batch.column(batch.schema.get_field_index(table_of(data, side)[1])))
    arrays: dict[str, pa.Array] = {KEY[side]: key}
    if side is Side.ITEM:
        parts = [
            pc.fill_null(strings(batch.column(batch.schema.get_field_index(c))), "")
            for c in data.item_title
        ]
        titles = (
            pc.binary_join_element_wise(*parts, pa.scalar(", ", pa.large_string()))
            if parts
            else key
        )
        whole = pc.replace_substring_regex(pc.fill_null(titles, ""), r"(, )+", ", ")  # gaps
        arrays["title"] = pc.utf8_trim(whole, ", ")
    arrays.update(raw_features(batch, columns))
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def distinct(table: pa.Table, key: str) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The first row of each key; rows without a key and repeated ones are rejected."""
    keys = table[key].combine_chunks()
    missing = pc.is_null(keys).to_numpy(zero_copy_only=False)
    codes = np.asarray(pc.fill_null(keys.dictionary_encode().indices, -1))
    first = np.zeros(len(keys), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    bad = np.flatnonzero(missing | ~first)
    reasons = [f"missing {key}" if missing[at] else f"repeated {key}" for at in bad]
    rejected = [
        {"reason": reason, "source": f"{key}s", "row": int(at), "values": {key: keys[at].as_py()}}
        for reason, at in zip(reasons, bad, strict=True)
    ]
    return table.filter(pa.array(first & ~missing)).combine_chunks(), rejected
