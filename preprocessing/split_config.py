"""The section `preprocess.split`: how interactions are divided in train, validation and test."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from preprocessing.features import Section
from preprocessing.sources.times import iso_8601

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


def _instant(value: Any) -> datetime:
    """An instant in UTC; a number is refused, since its unit would have to be guessed."""
    if isinstance(value, datetime):
        return (
            value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
        )
    if isinstance(value, date):
        return datetime.combine(value, time(), timezone.utc)
    if isinstance(value, str):
        micros, valid = iso_8601(pa.array([value.strip()], pa.large_string()))
        if valid[0]:
            return datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=int(micros[0]))
    raise ValueError("expected a time in ISO 8601, such as 2024-03-05T00:00:00+09:00")


Instant = Annotated[datetime, BeforeValidator(_instant)]


class SplitConfig(Section):
    """How interactions are divided in train, validation and test."""

    method: Literal["global_time", "leave_one_out", "column"] = Field(
        "global_time",
        description="one boundary in time for all, each user's last events, or what data.columns.split says",
    )
    validation: Fraction = Field(
        0.05, description="global_time: share of the events before the test part"
    )
    test: Fraction = Field(0.1, description="global_time: share of the events, the last ones")
    validation_from: Instant | None = Field(
        None, description="global_time: instant instead of a fraction"
    )
    test_from: Instant | None = Field(
        None, description="global_time: instant instead of a fraction"
    )
    allow_empty: bool = Field(False, description="accept a validation or test without interactions")
    held_out: Literal["evaluate", "train"] = Field(
        "evaluate",
        description="what validation and test are for; train: all interactions are trained on and nothing can be "
        "evaluated, as a final fit wants it (train.final_fit, which sets this by itself)",
    )

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"expected validation + test below 1, received {self.validation} + {self.test}: nothing is left"
            )
        if self.method != "global_time" and (self.validation_from or self.test_from):
            raise ValueError(
                f"validation_from and test_from are for method 'global_time', received method '{self.method}': leave "
                "them out, or change the method"
            )
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("expected both validation_from and test_from or neither")
        if self.validation_from and self.test_from and self.validation_from >= self.test_from:
            raise ValueError(
                f"expected validation_from before test_from, received {self.validation_from} and {self.test_from}"
            )
        return self
