"""The one gate to packages that only some steps need; it names the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from preprocessing.base.errors import LongtailError


def require(module: str, extra: str = "evaluation") -> Any:
    """The module, imported.

    Raises:
      LongtailError: it is not installed; names the extra of `setup.py` to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LongtailError(
            f"expected the package '{module.partition('.')[0]}', received: {error}; "
            f"pip install 'longtail[{extra}]'"
        ) from error
