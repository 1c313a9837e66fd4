"""The one gate to packages that only some steps need; it names the extra that brings them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from preprocessing.base.errors import LongtailError

ONLY_ON = {"scann": ((3, 10), (3, 11)), "tfx": ((3, 10),)}
"""Extras that setup.py leaves empty on other Pythons, and the Pythons that have them."""


def remedy(extra: str) -> str:
    """The command that brings an extra; where this Python has none of it, which Pythons do."""
    pythons = ONLY_ON.get(extra)
    here = sys.version_info[:2]
    if pythons and here not in pythons:
        names = " and ".join(f"{major}.{minor}" for major, minor in pythons)
        return f"'longtail[{extra}]' exists on Python {names} only, this is {here[0]}.{here[1]}"
    return f"pip install 'longtail[{extra}]'"


def require(module: str, extra: str = "evaluation") -> Any:
    """The module, imported.

    Raises:
      LongtailError: it is not installed; names the extra of `setup.py` to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LongtailError(
            f"expected the package '{module.partition('.')[0]}', received: {error}; {remedy(extra)}"
        ) from error
