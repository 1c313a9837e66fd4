"""Sizes of the embedding tables, read from what TF-Transform analysed."""

from __future__ import annotations

from pathlib import Path

import tensorflow_transform as tft

from preprocessing.errors import LongtailError
from preprocessing.features import Feature, FeatureList, Kind, Side

PADDING = 1
"""Index 0: padding, missing or masked."""


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
            f"expected a TF-Transform output in {path}, found none: run preprocess (python -m "
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
