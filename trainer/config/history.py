"""How the query tower reads a history."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from preprocessing.base.variants import name_of, refuse_unread
from preprocessing.features import Section
from trainer.towers.history.registry import ENCODERS


class HistoryConfig(Section):
    """The encoder of all sequence features, and what it alone reads."""

    encoder: name_of(ENCODERS) = Field(  # type: ignore[valid-type]
        "mean", description="; ".join(f"{name}: {each.says}" for name, each in ENCODERS.items())
    )
    heads: PositiveInt = Field(
        2, description="attention: learned queries, each with an answer of its own"
    )

    @model_validator(mode="after")
    def _check(self) -> HistoryConfig:
        readers = {option: name for name, each in ENCODERS.items() for option in each.options}
        refuse_unread(self, "encoder", readers)
        return self
