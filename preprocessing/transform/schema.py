"""Raw feature specs: what TF-Transform, the record batches and the serving signatures call a row before transformation.

Every raw feature is a variable-length list a row: strings, or floats for numbers and weights. A missing value is an
empty list, so that no analyzer ever counts it and the transform graph sees the same at training and serving.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

from preprocessing.features import Feature, FeatureList, Kind


def raw_dtype(feature: Feature) -> tf.DType:
    """Strings, but for numbers."""
    return tf.float32 if feature.kind is Kind.NUMERIC else tf.string


def raw_feature_spec(features: FeatureList) -> dict[str, Any]:
    """The raw spec of one side's columns: name to ``VarLenFeature``, weights included."""
    spec: dict[str, Any] = {}
    for feature in features:
        spec[feature.name] = tf.io.VarLenFeature(raw_dtype(feature))
        if feature.weights_name:
            spec[feature.weights_name] = tf.io.VarLenFeature(tf.float32)
    return spec


def adapter_config(spec: dict[str, Any], schema: pa.Schema) -> tensor_adapter.TensorAdapterConfig:
    """How TF-Transform reads record batches of a spec."""
    proto: schema_pb2.Schema = schema_utils.schema_from_feature_spec(spec)
    representations = tensor_representation_util.InferTensorRepresentationsFromSchema(proto)
    return tensor_adapter.TensorAdapterConfig(schema, representations)
