"""The sections of a configuration that a component reads, as one execution property."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel

from preprocessing.base.config_io import parse_config

Sections = TypeVar("Sections", bound=BaseModel)


def sections_of(config: BaseModel, kind: type[BaseModel]) -> str:
    """JSON of the fields that `kind` declares: a change elsewhere leaves the component cached."""
    fields = set(kind.model_fields) - {"work_dir"}
    return json.dumps(config.model_dump(mode="json", include=fields), sort_keys=True)


def parse(kind: type[Sections], text: str) -> Sections:
    """What `sections_of` wrote."""
    document = {"work_dir": ".", **json.loads(text)}
    return parse_config(document, kind, "execution property 'config'")
