"""Turns a source's Arrow columns into keys, times, numbers and raw features, without a Python loop over rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.features import Feature, FeatureList, Kind
from preprocessing.row_outcomes import Masks


@dataclass(frozen=True)
class RawFeatures:
    """The raw columns of some rows, and the rows [n] that a feature's value rejects or makes worth a note."""

    columns: dict[str, pa.Array]
    rejected: Masks = field(default_factory=dict)
    noted: Masks = field(default_factory=dict)


def strings(column: pa.Array) -> pa.Array:
    """Values as large_string; empty text becomes null, whole floats lose their '.0'.

    Args:
      column: any scalar column [rows], or lists of which the first value counts.
    """
    column = scalars(column)
    if pa.types.is_floating(column.type):
        whole = (
            pc.fill_null(pc.equal(column, pc.floor(column)), True)
            .to_numpy(zero_copy_only=False)
            .all()
        )
        column = (
            column.cast(pa.int64()) if whole and not pc.any(pc.is_nan(column)).as_py() else column
        )
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.large_string())
    text = column.cast(pa.large_string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)


def scalars(column: pa.Array) -> pa.Array:
    """The first value of each list; scalar and dictionary columns as they are."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        return column.flatten().take(pa.array(starts, pa.int64(), mask=lengths == 0))
    return column


def numbers(column: pa.Array) -> NDArray[Any]:
    """Values as float64 [rows]; missing and unparsable ones are NaN."""
    values = pd.to_numeric(scalars(column).to_pandas(), errors="coerce")
    return np.asarray(values, np.float64)


def microseconds(column: pa.Array, text_format: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times as int64 microseconds since 1970 [rows], and a mask [rows] of those that could be read.

    Numbers are seconds; text is ISO 8601 or of ``text_format``; times without a zone are UTC.
    """
    column = scalars(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        valid = pc.is_valid(column).to_numpy(zero_copy_only=False)
        times = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        return pc.fill_null(times.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), valid
    seconds = numbers(column) if text_format is None else np.full(len(column), np.nan)
    finite = np.isfinite(seconds) & (np.abs(np.nan_to_num(seconds)) < 2**40)
    result = np.where(finite, np.nan_to_num(seconds) * 1e6, 0).astype(np.int64)
    if (
        not finite.all()
        and not pa.types.is_floating(column.type)
        and not pa.types.is_integer(column.type)
    ):
        rest = np.flatnonzero(~finite)
        text = column.take(pa.array(rest)).to_pandas()
        parsed = pd.to_datetime(text, format=text_format, errors="coerce", utc=True)
        good = parsed.notna().to_numpy()
        stamps = parsed.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
        result[rest[good]] = stamps[good]
        finite[rest[good]] = True
    return result, finite


def raw_features(batch: pa.RecordBatch, features: FeatureList) -> RawFeatures:
    """The raw columns (see ``preprocessing.schema``) of the features that a source batch carries."""
    raw: dict[str, pa.Array] = {}
    for feature in features:
        column = _column(batch, feature.source)
        if feature.kind is Kind.NUMERIC:
            values = numbers(column)
            raw[feature.name] = _lists(pa.array(values, pa.float32(), mask=~np.isfinite(values)))
        elif feature.kind is Kind.MULTI:
            raw.update(_multi(batch, feature, column))
        else:
            raw[feature.name] = _lists(strings(column).cast(pa.large_binary()))
    return RawFeatures(raw)


def arrow_schema(features: FeatureList) -> pa.Schema:
    """The raw columns by name, lists all of them: the record batches of ``schema.raw_feature_spec``.

    Here and not beside the spec, so that workers who only read and divide tables do without TensorFlow.
    """
    values: dict[str, pa.DataType] = {}
    for feature in features:
        numeric = feature.kind is Kind.NUMERIC
        values[feature.name] = pa.float32() if numeric else pa.large_binary()
        if feature.weights_name:
            values[feature.weights_name] = pa.float32()
    return pa.schema([pa.field(name, pa.large_list(values[name])) for name in sorted(values)])


def empty_lists(rows: int, value: pa.DataType) -> pa.Array:
    """A raw column in which every value is missing."""
    return pa.LargeListArray.from_arrays(
        pa.array(np.zeros(rows + 1, np.int64)), pa.array([], value)
    )


def _multi(batch: pa.RecordBatch, feature: Feature, column: pa.Array) -> dict[str, pa.Array]:
    values = _split(column, feature)
    raw = {feature.name: values}
    if feature.weights_name and feature.weights_column:
        weights = _split(_column(batch, feature.weights_column), feature)
        flat = numbers(weights.flatten())
        aligned = np.array_equal(weights.offsets.to_numpy(), values.offsets.to_numpy())
        if not aligned:
            weights, flat = values, np.ones(len(values.flatten()))
        positive = np.where(np.isfinite(flat) & (flat > 0), flat, 0.0)
        raw[feature.weights_name] = pa.LargeListArray.from_arrays(
            weights.offsets, pa.array(positive, pa.float32())
        )
    return raw


def _split(column: pa.Array, feature: Feature) -> pa.Array:
    """Lists of at most ``max_length`` non-empty values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = column
    else:
        lists = pc.split_pattern(pc.fill_null(strings(column), ""), feature.separator)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lists)), lengths)
    flat = pc.utf8_trim_whitespace(lists.flatten().cast(pa.large_string()))
    kept = pc.fill_null(pc.greater(pc.utf8_length(flat), 0), False).to_numpy(zero_copy_only=False)
    place = np.cumsum(kept) - 1
    first = np.full(len(lists), np.iinfo(np.int64).max)
    np.minimum.at(first, rows[kept], place[kept])
    kept &= (place - first[rows]) < feature.max_length
    counts = np.bincount(rows[kept], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    return pa.LargeListArray.from_arrays(
        offsets, flat.filter(pa.array(kept)).cast(pa.large_binary())
    )


def _lists(values: pa.Array) -> pa.Array:
    """Single values as lists of one, missing ones as empty lists."""
    valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(valid)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, values.drop_null())


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))
