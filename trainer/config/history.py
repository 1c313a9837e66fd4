"""How the query tower reads a history."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from preprocessing.base.variants import name_of
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
        for name, encoder in ENCODERS.items():
            for option in encoder.options:
                default = type(self).model_fields[option].default
                if self.encoder != name and getattr(self, option) != default:
                    raise ValueError(
                        f"{option} is read by encoder '{name}' alone, received '{self.encoder}': leave it out"
                    )
        return self
