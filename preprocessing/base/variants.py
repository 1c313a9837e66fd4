"""Registries of variants: the choices of the configuration come from one, and code is imported when it is used.

A registry is a dict from the name in the configuration to what is known of the variant without its code: a new
variant is one file and one line. So reading a configuration imports no TensorFlow.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema


def load(place: str) -> Any:
    """What lies at ``package.module:name``; its module is imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def name_of(registry: Mapping[str, Any]) -> Any:
    """The type of a configuration's field that names an entry of a registry."""

    def known(name: str) -> str:
        if name not in registry:
            close = difflib.get_close_matches(name, registry, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            listed = ", ".join(f"'{each}'" for each in registry)
            raise ValueError(f"expected one of {listed}, received '{name}'{hint}")
        return name

    return Annotated[str, AfterValidator(known), WithJsonSchema({"enum": list(registry)})]
