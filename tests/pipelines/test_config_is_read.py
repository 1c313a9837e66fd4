"""Every option of a configuration is read by some code: one that is accepted and ignored misleads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from pipelines.config import RunConfig
from preprocessing.base.config_io import SECTIONS

PACKAGES = ("preprocessing", "trainer", "serving", "pipelines")


def options(model: type[BaseModel], found: set[type[BaseModel]]) -> Iterator[str]:
    """The names of all fields, those of the sections below them included."""
    if model in found:
        return
    found.add(model)
    for name, field in model.model_fields.items():
        yield name
        for section in sections(field.annotation):
            yield from options(section, found)


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation, at any depth: `list[Feature] | None` holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def test_a_section_that_nothing_reads_is_unknown() -> None:
    assert set(RunConfig.model_fields) == SECTIONS


@pytest.mark.parametrize("name", sorted(set(options(RunConfig, set()))))
def test_an_option_is_read(root: Path, name: str) -> None:
    read = re.compile(rf"\.{name}\b")
    files = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    assert any(read.search(path.read_text()) for path in files)
