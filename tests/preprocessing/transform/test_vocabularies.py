"""Which values of the items have rows of their own: those of training examples."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from preprocessing.beam import overhead
from preprocessing.features import Feature, FeatureList
from preprocessing.transform.preprocessing_fn import ID_WEIGHT, make_preprocessing_fn

FEATURES = FeatureList(
    tuple(
        Feature(name=name, side="item", kind=kind)
        for name, kind in [("sku", "id"), ("colour", "categorical"), ("tags", "multi")]
    )
)


def test_values_of_items_without_a_training_example_share_the_hashed_row(tmp_path: Path) -> None:
    rows = [
        {ID_WEIGHT: [1.0], "sku": ["a"], "colour": ["red"], "tags": ["x", "y"]},
        {ID_WEIGHT: [3.0], "sku": ["b"], "colour": ["red"], "tags": ["y"]},
        {ID_WEIGHT: [1.0], "sku": ["e"], "colour": ["blue"], "tags": ["y"]},
        {ID_WEIGHT: [0.0], "sku": ["c"], "colour": ["green"], "tags": ["z", "x"]},
        {ID_WEIGHT: [0.0], "sku": ["d"], "colour": ["blue"], "tags": []},
    ]
    spec = {name: tf.io.VarLenFeature(tf.string) for name in FEATURES.names}
    spec[ID_WEIGHT] = tf.io.VarLenFeature(tf.float32)
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with overhead.signatures_read_once(), tft_beam.Context(temp_dir=str(tmp_path / "scratch")):
        (transformed, _), transform_fn = (
            rows,
            metadata,
        ) | tft_beam.AnalyzeAndTransformDataset(make_preprocessing_fn(FEATURES, weighted_ids=True))
        _ = transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "out"))
    output = tft.TFTransformOutput(str(tmp_path / "out"))
    # Ids by their examples, other values by the items that are trained on: green and z are in none.
    assert output.vocabulary_by_name("sku")[0] == b"b"
    assert sorted(output.vocabulary_by_name("sku")) == [b"a", b"b", b"e"]
    assert output.vocabulary_by_name("colour") == [b"red", b"blue"]
    assert output.vocabulary_by_name("tags") == [b"y", b"x"]
    # Index 0 is missing, then the vocabulary, then one hashed row.
    assert [int(row["sku"]) for row in transformed[3:]] == [4, 4]
    assert [int(row["colour"]) for row in transformed] == [1, 1, 2, 3, 2]
