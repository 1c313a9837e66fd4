"""Mutual information between item features, from which self-supervision chooses related features to mask together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations_with_replacement
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.features import FeatureList

Counts = tuple[NDArray[Any], NDArray[Any]]
Table = dict[tuple[int, int], list[Counts]]
_BINS = np.array([-1.5, -0.5, 0.5, 1.5])
_COMPACT_AT = 64


def codes(column: pa.Array) -> NDArray[Any]:
    """One int64 code a row [rows]: the index, the first of several, or the half-sigma bin of a z-score."""
    # A row without a value has the code 0, and a batch may be without any.
    offsets = column.offsets.to_numpy()
    found = np.zeros(len(column), np.int64)
    has_value = np.diff(offsets) > 0
    first = np.asarray(column.values)[offsets[:-1][has_value]]
    if pa.types.is_floating(column.type.value_type):
        first = np.digitize(first, _BINS) + 1
    found[has_value] = first
    return found


def from_counts(joint: Counts, left: Counts, right: Counts) -> float:
    """MI(U,V) = sum p(u,v) log p(u,v) / (p(u) p(v)) in nats, from sparse counts; keys of ``joint`` are u << 32 | v."""
    keys, counts = joint
    total = counts.sum()
    of_left = left[1][np.searchsorted(left[0], (keys >> 32) << 32 | (keys >> 32))]
    of_right = right[1][np.searchsorted(right[0], (keys & 0xFFFFFFFF) << 32 | (keys & 0xFFFFFFFF))]
    return float((counts / total * np.log(counts * total / (of_left * of_right))).sum())


class MutualInformation(beam.CombineFn):
    """Combines record batches of transformed items [rows, k] to the symmetric matrix [k, k], items weighing alike.

    The diagonal holds the entropies. Memory grows with the distinct pairs of values, not with the rows.
    """

    def __init__(self, features: FeatureList) -> None:
        self._names = features.names
        self._pairs = list(combinations_with_replacement(range(len(self._names)), 2))

    def create_accumulator(self) -> Table:
        """No counts yet."""
        return {pair: [] for pair in self._pairs}

    def add_input(self, accumulator: Table, element: pa.RecordBatch) -> Table:
        """Count the pairs of values of a batch."""
        columns = [
            codes(element.column(element.schema.get_field_index(name))) for name in self._names
        ]
        for i, j in self._pairs:
            accumulator[i, j].append(np.unique(columns[i] << 32 | columns[j], return_counts=True))
            if len(accumulator[i, j]) >= _COMPACT_AT:
                accumulator[i, j] = [_summed(accumulator[i, j])]
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Table]) -> Table:
        """Counts of both."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for pair, counts in accumulator.items():
                if counts:
                    merged[pair] = [_summed([*merged[pair], *counts])]
        return merged

    def extract_output(self, accumulator: Table) -> dict[str, Any]:
        """Names and matrix, ready for JSON."""
        summed = {pair: _summed(counts) for pair, counts in accumulator.items() if counts}
        matrix = np.zeros((len(self._names),) * 2)
        for (i, j), joint in summed.items():
            matrix[i, j] = matrix[j, i] = from_counts(joint, summed[i, i], summed[j, j])
        return {"features": self._names, "mi": matrix.round(9).tolist()}


def _summed(parts: list[Counts]) -> Counts:
    keys, inverse = np.unique(np.concatenate([k for k, _ in parts]), return_inverse=True)
    return keys, np.bincount(inverse, np.concatenate([c for _, c in parts]), len(keys)).astype(
        np.int64
    )
