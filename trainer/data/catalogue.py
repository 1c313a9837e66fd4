"""The catalogue without its features: keys and counts of the items by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from preprocessing.config import AS_OF

ITEMS = Path("items") / "items.parquet"


@dataclass(frozen=True)
class Catalogue:
    """N items; row r is item r, row 0 is padding.

    Attributes:
      keys: N raw keys, strings; the first is that of row 1.
      counts_examples: `[N + 1]` training examples with the item as target.
      counts_events: `[N + 1]` training interactions with the item.
      counts_recent: name of an instant (`AS_OF`) -> `[N + 1]` interactions before it, each weighing
        2^(-age / half-life).
    """

    keys: pa.ChunkedArray
    counts_examples: NDArray[np.int64]
    counts_events: NDArray[np.int64]
    counts_recent: dict[str, NDArray[np.float64]]

    @classmethod
    def read(cls, data_dir: Path) -> Catalogue:
        """Reads the keys of `items/items.parquet`, and `item_counts.parquet`.

        Args:
          data_dir: finished preprocessing.

        Raises:
          LongtailError: a file is missing or damaged, or the two do not fit each other.
        """
        with open_parquet(Path(data_dir) / ITEMS) as items:
            keys = items.read(["item"])["item"]
        counts = _counts(Path(data_dir) / "item_counts.parquet", len(keys))
        examples, events = (counts[name].astype(np.int64) for name in ("examples", "events"))
        return cls(keys, examples, events, {name: counts[f"recent_{name}"] for name in AS_OF})

    @property
    def num_items(self) -> int:
        """N, without padding."""
        return len(self.keys)

    @cached_property
    def ids(self) -> NDArray[Any]:
        """`[N + 1]` raw keys as bytes, `b""` at row 0: Python objects, made once asked for."""
        # Objects and not a fixed width: `S` arrays drop trailing zero bytes and pad to the longest
        # key.
        return np.array([b"", *(key.encode() for key in self.keys.to_pylist())], object)


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A file of `data_dir`, to read columns of.

    Raises:
      LongtailError: it is missing or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise LongtailError(
            f"{path} is missing: run preprocess (python -m preprocessing.run) first"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise LongtailError(
            f"{path} cannot be read as Parquet ({error}): run preprocess again"
        ) from error


def _counts(path: Path, num_items: int) -> dict[str, NDArray[np.float64]]:
    """`[N + 1]` examples, events and recent events; items that are not listed have none."""
    with open_parquet(path) as file:
        table = file.read()
    rows = table["item"].to_numpy().astype(np.int64)
    if rows.size and not (rows.min() >= 1 and rows.max() <= num_items):
        raise LongtailError(
            f"{path}: expected rows from 1 to {num_items}, received {rows.min()} to {rows.max()}: "
            "it belongs to another item table; run preprocess again"
        )
    counts = {}
    for name in ("examples", "events", *(f"recent_{name}" for name in AS_OF)):
        counts[name] = np.zeros(num_items + 1)
        counts[name][rows] = table[name].to_numpy()
    return counts
