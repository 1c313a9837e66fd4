"""Registries of variants: the choices of the configuration come from one, and code is imported when it is used.

A registry is a dict from the name in the configuration to what is known of the variant without its code: a new
variant is one file and one line. So reading a configuration imports no TensorFlow.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, WithJsonSchema


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


def refuse_unread(section: BaseModel, choice: str, readers: Mapping[str, str]) -> None:
    """Refuses what was set and would be ignored.

    Args:
      section: of a configuration.
      choice: its field that names the variant.
      readers: other field -> the variant that alone reads it.

    Raises:
      ValueError: a field differs from its default, and the variant that reads it was not chosen.
      NotImplementedError: a registry names an option that the section has no field for.
    """
    fields, chosen = type(section).model_fields, getattr(section, choice)
    for field, reader in readers.items():
        if field not in fields:
            raise NotImplementedError(
                f"the registry says that '{reader}' reads the option '{field}', which is no field of "
                f"{type(section).__name__}: add it there"
            )
        if chosen != reader and getattr(section, field) != fields[field].default:
            raise ValueError(
                f"{field} is read by {choice} '{reader}' alone, received '{chosen}': leave it out"
            )
