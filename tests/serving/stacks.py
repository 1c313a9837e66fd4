"""Which tests the running stack can run."""

from __future__ import annotations

import sys

import pytest

from preprocessing.base.optional import ONLY_ON, remedy

needs_scann = pytest.mark.skipif(
    sys.version_info[:2] not in ONLY_ON["scann"], reason=remedy("scann")
)
