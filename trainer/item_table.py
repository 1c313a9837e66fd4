"""The item table: transformed features of the whole catalogue as dense tensors, gathered by row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from preprocessing.config import AS_OF
from preprocessing.errors import LongtailError
from preprocessing.features import Feature, FeatureList
from trainer.keras_gate import tf
from trainer.layers.embeddings import read_rows


@dataclass(frozen=True)
class ItemTable:
    """N items; row r is item r, row 0 is padding with all features missing.

    Attributes:
      ids: `[N + 1]` raw keys as bytes; `b""` at row 0.
      titles: `[N + 1]` what people read.
      features: name -> `[N + 1]` or `[N + 1, max_length]`, int32 indices or float32; and
        `<name>_weights` of weighted features. Tensors, so that a graph holds a reference and
        gathers from them.
      counts_examples: `[N + 1]` training examples with the item as target.
      counts_events: `[N + 1]` training interactions with the item.
      counts_recent: name of an instant (`AS_OF`) -> `[N + 1]` interactions before it, each weighing
        2^(-age / half-life).
      on_servers: whether features are variables of parameter servers.
    """

    ids: NDArray[Any]
    titles: NDArray[Any]
    features: dict[str, tf.Tensor]
    counts_examples: NDArray[np.int64]
    counts_events: NDArray[np.int64]
    counts_recent: dict[str, NDArray[np.float64]]
    on_servers: bool = False

    def column(self, values: ArrayLike | tf.Tensor) -> Any:
        """One value an item `[N + 1, ...]`, to be read by `read_rows`.

        A constant; with parameter servers a variable there, or each step would carry it along.
        """
        return tf.Variable(values, trainable=False) if self.on_servers else tf.constant(values)

    def to_servers(self) -> ItemTable:
        """The table with its features on the parameter servers of the strategy's scope."""
        served = replace(self, on_servers=True)
        features = {name: served.column(values) for name, values in self.features.items()}
        return replace(served, features=features)

    @property
    def num_items(self) -> int:
        """N, without padding."""
        return len(self.ids) - 1

    @classmethod
    def load(cls, data_dir: Path, features: FeatureList) -> ItemTable:
        """Read `items/items.parquet` and `item_counts.parquet`.

        Args:
          data_dir: finished preprocessing.
          features: all features; those of the items are read.

        Raises:
          LongtailError: a file or a column is missing, or the two files do not fit each other.
        """
        table = _read(Path(data_dir) / "items" / "items.parquet")
        columns = features.item_columns
        wanted = ["item", "title", *columns.names]
        wanted += [f.weights_name for f in columns if f.weights_name]
        missing = [name for name in wanted if name not in table.column_names]
        if missing:
            raise LongtailError(
                f"{data_dir}/items/items.parquet: expected columns {wanted}, received "
                f"{table.column_names}: {missing} changed since preprocess ran; run it again"
            )
        dense: dict[str, tf.Tensor] = {}
        for feature in columns:
            dense[feature.name] = _dense(table[feature.name], feature)
            if feature.weights_name:
                dense[feature.weights_name] = _dense(table[feature.weights_name], feature)
        keys = [key.encode() if isinstance(key, str) else key for key in table["item"].to_pylist()]
        # Objects and not a fixed width: `S` arrays drop trailing zero bytes and pad to the longest
        # key.
        ids = np.array([b"", *keys], object)
        titles = np.array(["", *(title or "" for title in table["title"].to_pylist())], object)
        counts = _counts(Path(data_dir) / "item_counts.parquet", len(keys))
        examples, events = (counts[name].astype(np.int64) for name in ("examples", "events"))
        recent = {name: counts[f"recent_{name}"] for name in AS_OF}
        return cls(ids, titles, dense, examples, events, recent)

    def gather(self, rows: ArrayLike | tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of `rows [m]` (int32 or int64): name -> `[m]` or `[m, max_length]`."""
        return {name: read_rows(values, rows) for name, values in self.features.items()}

    def uniform_rows(self, m: int, seed: tf.Tensor) -> tf.Tensor:
        """Draws `[m]` int32 rows uniformly, with replacement, never padding.

        Args:
          m: how many.
          seed: `[2]` integers; the same seed draws the same rows, eagerly and in a graph.
        """
        return tf.random.stateless_uniform(
            [m], seed, minval=1, maxval=self.num_items + 1, dtype=tf.int32
        )


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise LongtailError(
            f"expected {path}, found none: run preprocess (python -m preprocessing.run) first"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise LongtailError(
            f"{path} cannot be read as Parquet ({error}): run preprocess again"
        ) from error


def _dense(column: pa.ChunkedArray, feature: Feature) -> tf.Tensor:
    """A column with padding before it: `[N + 1]`, or `[N + 1, max_length]` of a list column."""
    values = column.combine_chunks()
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    kind = (
        np.float32
        if pa.types.is_floating(values.type.value_type if is_list else values.type)
        else np.int32
    )
    if not is_list:
        flat = np.nan_to_num(values.to_numpy(zero_copy_only=False).astype(np.float64))
        return tf.constant(np.concatenate([[0], flat]).astype(kind))
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
    return tf.constant(dense)


def _counts(path: Path, num_items: int) -> dict[str, NDArray[np.float64]]:
    """`[N + 1]` examples, events and recent events; items that are not listed have none."""
    table = _read(path)
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
