"""Lists of rows as offsets and flat values, and the Arrow columns that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def slices(
    starts: NDArray[Any], sizes: NDArray[Any], values: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The slices ``values[start : start + size]`` one after the other, with their offsets."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
    return offsets, values[flat]


def distinct(
    starts: NDArray[Any], sizes: NDArray[Any], items: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Distinct items of each slice by first occurrence: offsets, items and how often."""
    offsets, flat = slices(starts, sizes, items)
    rows = np.repeat(np.arange(len(starts)), np.diff(offsets))
    pairs = rows * (flat.max(initial=0) + 1) + flat
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    order = np.argsort(first)
    first, counts = first[order], counts[order]
    return (
        np.concatenate([[0], np.cumsum(np.bincount(rows[first], minlength=len(starts)))]),
        flat[first],
        counts,
    )


def take(offsets: NDArray[Any], values: NDArray[Any], rows: NDArray[Any]) -> pa.Array:
    """The lists of the given rows, in their order."""
    return large_list(*slices(offsets[rows], offsets[rows + 1] - offsets[rows], values))


def take_or_empty(column: pa.Array, rows: pa.Array) -> pa.Array:
    """Lists of the given rows of a column; a null row is an empty list."""
    valid = pc.is_valid(rows).to_numpy(zero_copy_only=False)
    at = pc.fill_null(rows, 0).to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy().astype(np.int64)
    sizes = (
        np.where(valid, offsets[at + 1] - offsets[at], 0)
        if len(column)
        else np.zeros(len(rows), np.int64)
    )
    starts = offsets[at] if len(column) else sizes
    where, taken = slices(starts, sizes, np.arange(offsets[-1]) if len(column) else sizes[:0])
    return pa.LargeListArray.from_arrays(
        pa.array(where), column.values.take(pa.array(taken, pa.int64()))
    )


def large_list(offsets: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    """Lists of int64."""
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pa.array(values, pa.int64())
    )


def singles(values: pa.Array) -> pa.Array:
    """Values [n] as n lists of one."""
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(values) + 1), pa.int64()), values)
