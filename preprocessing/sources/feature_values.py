"""What the rows of a source hold of each feature: how many have a value, and how far numbers reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

WIDE = 15
"""Orders of magnitude beyond which a z-score tells the largest numbers apart and nothing else."""


@dataclass
class FeatureValues:
    """Counts of one feature; those of parts of a source add up in any order."""

    scaled: bool = False
    """Whether its numbers become z-scores."""
    rows: int = 0
    present: int = 0
    smallest: float = math.inf
    """Magnitude of the smallest number that is not 0."""
    largest: float = 0.0

    def add(self, column: pa.Array) -> None:
        """Count a raw column: lists, empty where the value is missing."""
        self.rows += len(column)
        self.present += int((np.diff(column.offsets.to_numpy()) > 0).sum())
        if pa.types.is_floating(column.type.value_type):
            magnitudes = np.abs(column.flatten().to_numpy())
            self.largest = max(self.largest, float(magnitudes.max(initial=0.0)))
            smallest = magnitudes[magnitudes > 0].min(initial=np.inf)
            self.smallest = min(self.smallest, float(smallest))

    def merge(self, other: FeatureValues) -> None:
        """Both together."""
        self.rows += other.rows
        self.present += other.present
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)


def warnings(values: Mapping[str, FeatureValues]) -> Iterator[str]:
    """What of a source's features is worth a word."""
    for name, found in values.items():
        if found.rows and not found.present:
            yield f"'{name}' has no value in any of {found.rows:,} rows: it is taken as missing everywhere"
        elif found.scaled and found.largest > 0:
            orders = math.log10(found.largest / found.smallest)
            if orders > WIDE:
                yield (
                    f"'{name}' holds numbers of {found.smallest:.1e} to {found.largest:.1e} in magnitude: as z-scores "
                    "all but the largest look alike; set 'buckets', or correct the source"
                )
