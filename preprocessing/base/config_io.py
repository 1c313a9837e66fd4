"""Reads the one YAML file of a run into the sections that a package needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from preprocessing.base.errors import LongtailError

SECTIONS = frozenset(
    [
        "name",
        "work_dir",
        "seed",
        "data",
        "features",
        "preprocess",
        "towers",
        "prior",
        "loss",
        "negatives",
        "ssl",
        "train",
        "evaluate",
        "data_checks",
        "export",
        "gates",
        "pipeline",
        "rollout",
        "ablate",
        "vertex",
    ]
)
"""Every top-level key that some package reads; a package ignores the sections of the others."""

Sections = TypeVar("Sections", bound=BaseModel)


def load_config(
    path: str | Path, schema: type[Sections], overrides: Iterable[str] = ()
) -> Sections:
    """Read and validate a configuration file.

    Args:
      path: the YAML file.
      schema: the sections wanted, e.g. ``DataSections``.
      overrides: ``section.key=value`` pairs, the value read as YAML.

    Raises:
      LongtailError: the file cannot be read, a key is unknown or a value is impossible; one line a problem with
        the path of the key, what was expected and what was received.
    """
    source = Path(path)
    try:
        document = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise LongtailError(
            f"cannot read the configuration {source}: {error.strerror or error}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LongtailError(
            f"{source} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(document, dict):
        raise LongtailError(
            f"{source}: expected sections (key: value), received {type(document).__name__}"
        )
    for override in overrides:
        _apply(document, override)
    return parse_config(document, schema, str(source))


def parse_config(document: dict[str, Any], schema: type[Sections], source: str) -> Sections:
    """Validate a configuration that was read already; see ``load_config``."""
    unknown = sorted(str(key) for key in document if key not in SECTIONS)
    if unknown:
        raise LongtailError(
            f"{source}: unknown section {', '.join(unknown)}: expected {', '.join(sorted(SECTIONS))}"
        )
    wanted = {key: value for key, value in document.items() if key in schema.model_fields}
    try:
        return schema.model_validate(wanted)
    except ValidationError as error:
        raise LongtailError(_explain(error, source, document)) from error


def _explain(error: ValidationError, source: str, document: dict[str, Any]) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in _named(problem["loc"], document)) or "(whole file)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key"
        received = (
            ""
            if isinstance(problem["input"], (dict, BaseModel)) or ", received " in message
            else f", received {problem['input']!r}"
        )
        lines.append(f"{source}: {where}: {message}{received}")
    return "\n".join(lines)


def _named(location: tuple[str | int, ...], document: dict[str, Any]) -> list[str | int]:
    """The location with the feature's name in place of its number."""
    parts = list(location)
    if len(parts) > 1 and parts[0] == "features" and isinstance(parts[1], int):
        listed = document.get("features")
        entry = listed[parts[1]] if isinstance(listed, list) else None
        if isinstance(entry, dict) and "name" in entry:
            parts[1] = entry["name"]
    return parts


def _apply(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise LongtailError(f"--set expected section.key=value, received '{override}'")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LongtailError(f"--set {key}: '{text}' is not a YAML value") from error
    put(document, key.strip(), value, "--set")


def put(document: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Sets a dotted key; sections that are missing are made.

    Raises:
      LongtailError: something on the way is no section; `source` says who asked.
    """
    *parents, last = key.split(".")
    place: Any = document
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise LongtailError(
                f"{source} {key}: '{parent}' holds no keys; features are changed in the file"
            )
    place[last] = value
