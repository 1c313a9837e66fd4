"""Lists of integers of different lengths, one a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ragged(NamedTuple):
    """Lists of integers, one a user: list i is `values[row_splits[i]:row_splits[i + 1]]`."""

    values: NDArray[Any]
    row_splits: NDArray[Any]

    def __len__(self) -> int:
        """Number of lists, not of fields."""
        return len(self.row_splits) - 1

    def take(self, rows: NDArray[Any]) -> Ragged:
        """The lists of the given rows, in their order."""
        sizes = np.diff(self.row_splits)[rows]
        splits = np.concatenate([[0], np.cumsum(sizes)])
        flat = np.arange(splits[-1]) + np.repeat(self.row_splits[rows] - splits[:-1], sizes)
        return Ragged(self.values[flat], splits)
