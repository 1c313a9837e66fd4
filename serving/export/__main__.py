"""`python -m serving.export`."""

import sys

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from serving.export.run import main

sys.exit(main())
