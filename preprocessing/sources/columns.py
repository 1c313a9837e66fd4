"""Turns a source's Arrow columns into raw features, without a Python loop over rows; each row stands for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.features import Feature, FeatureList, Kind
from preprocessing.sources.row_outcomes import Masks
from preprocessing.sources.scalars import (
    UnreadableType,
    is_list,
    lists,
    numbers,
    plain,
    reading,
    strings,
    true,
    unwritable,
)

NO_TEXT = "{}: not UTF-8, or an infinite number, taken as missing"
NO_NUMBER = "{}: not a number of a magnitude below 2^63, taken as missing"
UNALIGNED = "{}: weights that do not fit the values, all taken as 1"
UNDERFLOW = "{}: a number too small for float32, taken as 0"
NEGATIVE = "{}: a weight below 0, taken as 0"


@dataclass(frozen=True)
class RawFeatures:
    """The raw columns of some rows, and the rows [n] that a feature's value rejects or makes worth a note."""

    columns: dict[str, pa.Array]
    rejected: Masks = field(default_factory=dict)
    noted: Masks = field(default_factory=dict)


def raw_features(batch: pa.RecordBatch, features: FeatureList, place: str) -> RawFeatures:
    """The raw columns (see ``preprocessing.transform.schema``) of the features that a source batch carries.

    Args:
      batch: source columns.
      features: those to read.
      place: of the batch, for errors.

    Raises:
      LongtailError: a column is of a type that cannot be read so; names place and column.
    """
    raw: dict[str, pa.Array] = {}
    notes: dict[str, NDArray[np.bool_]] = {}
    for feature in features:
        column = column_of(batch, feature.source)
        with reading(place, feature.source, f"feature of kind '{feature.kind.value}'"):
            if feature.kind is Kind.NUMERIC:
                values, bad = numbers(column)
                raw[feature.name] = _singles(pa.array(values, pa.float32(), mask=np.isnan(values)))
                notes[NO_NUMBER.format(feature.name)] = bad
                notes[UNDERFLOW.format(feature.name)] = (values != 0) & (
                    values.astype(np.float32) == 0
                )
            elif feature.kind is Kind.MULTI:
                weights = feature.weights_column and column_of(batch, feature.weights_column)
                columns, told = _multi(feature, column, weights, place)
                raw |= columns
                notes |= told
            else:
                text = strings(column)
                raw[feature.name] = _singles(text.cast(pa.large_binary()))
                notes[NO_TEXT.format(feature.name)] = unwritable(column, text)
    return RawFeatures(raw, noted={why: rows for why, rows in notes.items() if rows.any()})


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


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The column of that name."""
    return batch.column(batch.schema.get_field_index(name))


def _multi(
    feature: Feature, column: pa.Array, weights_column: pa.Array | None, place: str
) -> tuple[dict[str, pa.Array], Masks]:
    """Values and weights are paired before empty values are dropped and the rest is cut to ``max_length``."""
    lengths, flat, lost = _cells(column, feature.separator)
    texts = strings(flat)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    lost[rows[unwritable(flat, texts)]] = True
    texts = pc.utf8_trim_whitespace(texts)
    kept = true(pc.is_valid(texts))
    rank = np.cumsum(kept) - 1  # of a value among those of all rows
    first = np.full(len(lengths), np.iinfo(np.int64).max)
    np.minimum.at(first, rows[kept], rank[kept])
    kept &= (rank - first[rows]) < feature.max_length
    counts = np.bincount(rows[kept], minlength=len(lengths))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    values = texts.filter(pa.array(kept)).cast(pa.large_binary())
    raw = {feature.name: pa.LargeListArray.from_arrays(offsets, values)}
    notes = {NO_TEXT.format(feature.name): lost}
    if weights_column is None or not feature.weights_name:
        return raw, notes
    with reading(place, str(feature.weights_column), "weight"):
        own_lengths, own, _ = _cells(weights_column, feature.separator)
        weights, _ = numbers(own)
    fits = own_lengths == lengths
    paired = np.ones(len(flat))
    paired[fits[rows]] = weights[np.repeat(fits, own_lengths)]
    unusable = np.bincount(rows[kept & np.isnan(paired)], minlength=len(lengths)) > 0
    uneven = unusable | (~fits & (counts > 0))
    paired[uneven[rows]] = 1.0
    below = kept & (paired < 0)
    raw[feature.weights_name] = pa.LargeListArray.from_arrays(
        offsets, pa.array(np.maximum(paired, 0.0)[kept], pa.float32())
    )
    negative = np.bincount(rows[below], minlength=len(lengths)) > 0
    return raw, notes | {
        UNALIGNED.format(feature.name): uneven,
        NEGATIVE.format(feature.name): negative,
    }


def _cells(
    column: pa.Array, separator: str
) -> tuple[NDArray[np.int64], pa.Array, NDArray[np.bool_]]:
    """How many values each row holds, the values, and the rows that are no text and so hold none.

    Values are those of a list, of text cut at the separator, or a single one.
    """
    column = plain(column)
    if is_list(column.type):
        lengths, flat = lists(column)
        if is_list(flat.type):
            raise UnreadableType(column.type, "lists of single values")
        return lengths, flat, np.zeros(len(lengths), bool)
    texts = strings(column)
    return *lists(pc.split_pattern(texts, separator)), unwritable(column, texts)


def _singles(values: pa.Array) -> pa.Array:
    """Single values as lists of one, missing ones as empty lists."""
    valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(valid)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, values.drop_null())
