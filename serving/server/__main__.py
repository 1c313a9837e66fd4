"""`python -m serving.server`."""

import sys

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from serving.server.run import main

sys.exit(main())
