"""Measurements, each its own program: `python -m benchmarks.NAME --help`."""

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
