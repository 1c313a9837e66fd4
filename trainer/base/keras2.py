"""The one door to TensorFlow, Keras 2 and TensorFlow Recommenders.

TFRS 0.7.7 is written for Keras 2, and TensorFlow 2.16 hands out Keras 3 as `tf.keras` unless
`TF_USE_LEGACY_KERAS=1` was set before. Every module of `trainer` (also those that need no Keras,
so that the order of imports cannot matter) therefore takes the three from here:

    from trainer.base.keras2 import keras, tf, tfrs
"""

from __future__ import annotations

import os

# `tf.keras` is resolved on first use, so this still helps when another library (TF-Transform, say)
# has imported TensorFlow without touching `tf.keras`. What it cannot undo is checked below.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# 2: hides C++ INFO and WARNING lines, keeps ERROR. A value set by the user wins.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tf_keras as keras

from preprocessing.base.errors import LongtailError

if tf.keras.layers.Layer is not keras.layers.Layer:
    raise LongtailError(
        "expected tf.keras to be Keras 2 (tf_keras), received Keras 3 with "
        f"TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']!r}: something used tf.keras "
        "before Longtail was imported, or the variable was set to another value. "
        "Import trainer.base.keras2 first, or run with TF_USE_LEGACY_KERAS=1 in the environment."
    )

import tensorflow_recommenders as tfrs

__all__ = ["keras", "tf", "tfrs"]
