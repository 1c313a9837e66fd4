"""Keeps the start-up chatter of the libraries away from users; imported first by every entry point."""

from __future__ import annotations

import logging
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\..*")
warnings.filterwarnings("ignore", category=DeprecationWarning)
for _name in ("tensorflow", "tensorflow_transform", "apache_beam", "root", "absl"):
    logging.getLogger(_name).setLevel(logging.ERROR)
