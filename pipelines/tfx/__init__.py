"""Longtail as components of a TFX pipeline (extra ``tfx``)."""

import os

# TFX imports TensorFlow before our gate to it can; a container sets it for all that run in it.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
