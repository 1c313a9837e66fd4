"""Sizes of the embedding tables, read from what TF-Transform analysed; rows that two runs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_transform as tft
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from preprocessing.features import Feature, FeatureList, Kind, Side
from trainer.base.keras2 import tf

PADDING = 1
"""Index 0: padding, missing or masked."""


@dataclass(frozen=True)
class Rows:
    """Which rows of two tables are the same.

    Attributes:
      old, new: `[n]` rows of the one and of the other, in the order of `new`.
      fresh: `[num_new]` rows that only the new table has.
      unknown: `[num_new]` rows of the old table that their keys read as unknown ones.
      num_gone: keys that only the old one had.
    """

    old: NDArray[np.int64]
    new: NDArray[np.int64]
    fresh: NDArray[np.int64]
    unknown: NDArray[np.int64]
    num_gone: int

    @classmethod
    def of_keys(cls, old: Sequence[bytes], new: Sequence[bytes], num_oov_buckets: int) -> Rows:
        """Rows by key; padding and hashed buckets, which depend on no vocabulary, by their place.

        Args:
          old: keys of rows 1, 2, ... of the old table.
          new: of the new one.
          num_oov_buckets: hashed buckets behind the keys of either.
        """
        place = {key: row for row, key in enumerate(old, PADDING)}
        known = [(place[key], row) for row, key in enumerate(new, PADDING) if key in place]
        buckets = range(PADDING, PADDING + num_oov_buckets)
        hashed = [(len(old) + i, len(new) + i) for i in buckets]
        pairs = np.array([(0, 0), *known, *hashed], np.int64)
        added = [(key, row) for row, key in enumerate(new, PADDING) if key not in place]
        fresh = np.array([row for _, row in added], np.int64)
        unknown = np.zeros(len(added), np.int64)  # padding, where nothing is hashed
        if added and num_oov_buckets:
            # The hash by which a look-up of TF-Transform's vocabularies chooses the bucket.
            keys = tf.constant([key for key, _ in added])
            bucket = tf.strings.to_hash_bucket_fast(keys, num_oov_buckets).numpy()
            unknown = len(old) + PADDING + bucket
        return cls(pairs[:, 0], pairs[:, 1], fresh, unknown, len(old) - len(known))

    def summary(self) -> dict[str, int]:
        """Rows `kept`, `new` and `gone`."""
        return {"kept": len(self.new), "new": len(self.fresh), "gone": self.num_gone}


def open_transform(data_dir: Path, side: str) -> tft.TFTransformOutput:
    """The TF-Transform output of one side.

    Args:
      data_dir: finished preprocessing.
      side: `query` or `item`.

    Raises:
      LongtailError: it is not there.
    """
    path = data_dir / "transform_graph" / side
    if not (path / "transform_fn").is_dir():
        raise LongtailError(
            f"there is no output of TF-Transform in {path}: run preprocess (python -m "
            "preprocessing.run)"
        )
    return tft.TFTransformOutput(str(path))


def table_sizes(data_dir: Path, features: FeatureList) -> dict[str, int]:
    """Rows of each embedding table.

    A vocabulary of V with h hashed buckets takes indices `0..V + h`, a number in b quantile buckets
    `0..b`.

    Args:
      data_dir: finished preprocessing.
      features: all features.

    Returns:
      Name of the table (the feature that owns it, see `FeatureList.table_of`) -> rows.

    Raises:
      LongtailError: the transform output is missing or lacks a vocabulary.
    """
    outputs = {side: open_transform(data_dir, side) for side in ("query", "item")}
    sizes = {}
    for feature in features:
        if feature.is_embedded and feature.shared_with is None:
            output = outputs["item" if feature.side is Side.ITEM else "query"]
            sizes[feature.name] = _rows(feature, output)
    return sizes


def _rows(feature: Feature, output: tft.TFTransformOutput) -> int:
    if feature.kind is Kind.NUMERIC:
        assert feature.buckets is not None  # else it has no table
        return feature.buckets + PADDING
    try:
        vocabulary: int = output.vocabulary_size_by_name(feature.name)
    except (ValueError, OSError) as error:
        raise LongtailError(
            f"expected a vocabulary '{feature.name}' in {output.transform_savedmodel_dir}, found "
            "none: the features changed since preprocess ran; run it again"
        ) from error
    return vocabulary + feature.num_oov_buckets + PADDING
