"""The item table: transformed features of the whole catalogue, gathered by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, FeatureList
from trainer.base.keras2 import tf
from trainer.data.catalogue import ITEMS, Catalogue, open_parquet
from trainer.data.item_column import ItemColumn
from trainer.functional.draws import uniform_rows


@dataclass(frozen=True)
class ItemTable(Catalogue):
    """The catalogue with its features, of which row 0 has none.

    Attributes:
      features: name -> `[N + 1]` or `[N + 1, max_length]`, int64 indices or float32; and
        `<name>_weights` of weighted features.
    """

    features: dict[str, ItemColumn]

    @classmethod
    def load(cls, data_dir: Path, features: FeatureList) -> ItemTable:
        """Reads `items/items.parquet` and `item_counts.parquet`.

        Args:
          data_dir: finished preprocessing.
          features: all features; those of the items are read.

        Raises:
          LongtailError: a file or a column is missing, or the two files do not fit each other.
        """
        own = {
            name: feature
            for feature in features.item_columns
            for name in filter(None, (feature.name, feature.weights_name))
        }
        known = Catalogue.read(data_dir)
        with open_parquet(Path(data_dir) / ITEMS) as items:
            stored = items.schema_arrow.names
            missing = [name for name in own if name not in stored]
            if missing:
                raise LongtailError(
                    f"{data_dir}/{ITEMS}: expected columns {list(own)}, received {stored}: "
                    f"{missing} changed since preprocess ran; run it again"
                )
            # One after the other: the column as it is stored is twice as wide.
            columns = {
                name: ItemColumn(_dense(items.read([name])[name], feature), name)
                for name, feature in own.items()
            }
        return cls(
            known.keys, known.counts_examples, known.counts_events, known.counts_recent, columns
        )

    def gather(self, rows: ArrayLike | tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of `rows [m]` (int32 or int64): name -> `[m]` or `[m, max_length]`."""
        return {name: column.read(rows) for name, column in self.features.items()}

    def uniform_rows(self, m: int, seed: tf.Tensor) -> tf.Tensor:
        """Draws `[m]` int64 rows uniformly, with replacement, never padding.

        Args:
          m: how many.
          seed: `[2]` integers; the same seed draws the same rows, eagerly and in a graph.
        """
        return uniform_rows(self.num_items, m, seed)


def _dense(column: pa.ChunkedArray, feature: Feature) -> NDArray[Any]:
    """A column with padding before it: `[N + 1]`, or `[N + 1, max_length]` of a list column."""
    values = column.combine_chunks()
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    kind = (
        np.float32
        if pa.types.is_floating(values.type.value_type if is_list else values.type)
        else np.int64
    )
    if not is_list:
        flat = np.nan_to_num(values.to_numpy(zero_copy_only=False).astype(np.float64))
        return np.concatenate([[0], flat]).astype(kind)
    width = feature.max_length
    dense = np.zeros((len(values) + 1, width), kind)
    offsets = values.offsets.to_numpy().astype(np.int64)
    sizes = np.minimum(np.diff(offsets), width)
    rows = np.repeat(np.arange(1, len(values) + 1), sizes)
    starts = np.cumsum(sizes) - sizes
    places = np.arange(sizes.sum()) - np.repeat(starts, sizes)
    dense[rows, places] = values.values.to_numpy(zero_copy_only=False)[
        np.repeat(offsets[:-1], sizes) + places
    ]
    return dense
