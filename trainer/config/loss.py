"""The sections of the main task: loss, corrections, sources of negatives, popularity prior."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from preprocessing.base.variants import name_of, refuse_unread
from preprocessing.features import Section
from preprocessing.split_config import Fraction
from trainer.base.limits import MAX_BUCKETS
from trainer.losses.registry import LOSSES

PSEUDO_EVENTS = 2.0
"""Default of the recent events that an item's long-term share of the log counts as."""


class PriorConfig(Section):
    """Popularity at serving only: score + beta log P, in one more coordinate of the vectors.

    Alone it is the alternative to a correction in training; with `towers.popularity` it shifts the
    learned weight, below 0 towards the tail. Evaluation and export read it; weights do not depend
    on it, only which of a run's evaluations counts as the best.
    """

    beta: float = Field(0.0, description="weight of log P")
    pseudo_events: PositiveFloat | None = Field(
        None,
        description="recent events that the long-term share counts as, default: 2, or what "
        "towers.popularity says",
    )


class FrequencyConfig(Section):
    """Sampling probabilities from the stream (Yi et al., algorithms 2 and 3)."""

    buckets: Annotated[int, Field(ge=1, le=MAX_BUCKETS)] = Field(
        262_144, description="of each hash function, 12 bytes each"
    )
    hashes: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="the estimate is the rarest of these"
    )
    learning_rate: Fraction = Field(0.05, description="weight of the newest interval")
    initial_interval: Annotated[float, Field(ge=1.0)] = Field(
        1_000.0, description="steps between two occurrences before an item was seen"
    )


class LossConfig(Section):
    """The main task."""

    kind: name_of(LOSSES) = Field(  # type: ignore[valid-type]
        "softmax", description="; ".join(f"{name}: {loss.says}" for name, loss in LOSSES.items())
    )
    temperature: PositiveFloat = Field(
        0.05, description="scores are cosines divided by it; tune it on validation"
    )
    log_q: Literal["none", "standard", "corrected"] = Field(
        "standard",
        description="correction by the sampling probability; of bce: noise-contrastive estimation",
    )
    probabilities: Literal["exact", "streamed"] = Field(
        "exact", description="where the sampling probabilities come from"
    )
    frequency: FrequencyConfig = FrequencyConfig()
    remove_accidental_hits: bool = Field(
        True,
        description="a row's positive, drawn once more, is no negative; gramian has no such columns",
    )
    gramian_weight: PositiveFloat = Field(1.0, description="gramian: weight of all pairs")
    bsl_ratio: PositiveFloat = Field(
        1.0, description="bsl: temperature of the positives over that of the negatives"
    )
    bce_weight: PositiveFloat = Field(1.0, description="bce: weight of the negatives")

    @property
    def positive_is_no_draw(self) -> bool:
        """Whether a row's positive stands beside what was drawn, instead of counting as one draw."""
        return self.log_q in LOSSES[self.kind].positive_apart

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if self.log_q not in LOSSES[self.kind].log_q:
            knowing = [f"'{name}'" for name, each in LOSSES.items() if self.log_q in each.log_q]
            raise ValueError(
                f"log_q '{self.log_q}' expected kind {' or '.join(knowing)}, received '{self.kind}': "
                f"use one of {', '.join(LOSSES[self.kind].log_q)}"
            )
        if self.log_q == "corrected" and not self.remove_accidental_hits:
            raise ValueError(
                "log_q 'corrected' expected remove_accidental_hits true, received false: it divides "
                "by the probability of all items but the positive; use 'standard'"
            )
        if self.probabilities == "streamed" and self.log_q == "none":
            raise ValueError(
                "probabilities 'streamed' expected a correction, received log_q 'none'"
            )
        refuse_unread(
            self, "kind", {option: name for name, loss in LOSSES.items() for option in loss.options}
        )
        refuse_unread(self, "probabilities", {"frequency": "streamed"})
        return self


class MemoryConfig(Section):
    """Item embeddings of the last batches as further negatives (CBNS)."""

    size: PositiveInt = Field(8192, description="embeddings kept, first in first out")
    drawn: PositiveInt | None = Field(
        None, description="of them used a step, drawn at random; default: all"
    )
    warm_up_steps: PositiveInt = Field(
        64, description="steps before they are used: early embeddings change too fast"
    )
    momentum: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="embed by a tower that follows slowly (MoCo), e.g. 0.99; default: none"
    )

    balanced: bool = Field(
        True,
        description="items of the batch learn for those of the bank, which cannot; without in_batch "
        "there is nothing to balance",
    )

    @property
    def used(self) -> int:
        """Candidates that the bank adds to a step."""
        return self.drawn or self.size

    @model_validator(mode="after")
    def _check(self) -> MemoryConfig:
        if self.used > self.size:
            raise ValueError(f"drawn expected at most size={self.size}, received {self.drawn}")
        return self


class NegativesConfig(Section):
    """What counts as a negative, freely combined."""

    in_batch: bool = Field(True, description="the items of the other examples of the batch")
    uniform: NonNegativeInt = Field(0, description="items drawn uniformly from the table a step")
    memory: MemoryConfig | None = Field(None, description="bank of past batches, default: none")
    hardest: PositiveInt | None = Field(
        None, description="only the n of the highest score count, default: all"
    )
    known_positives: Literal["keep", "remove"] = Field(
        "keep", description="other items that the user has in training"
    )
    explicit: bool = Field(False, description="items that the user refused, see data.refused")

    @model_validator(mode="after")
    def _check(self) -> NegativesConfig:
        if not (self.in_batch or self.uniform):
            raise ValueError(
                "in_batch and uniform are both off: a step needs one of them, since a bank has nothing to "
                "offer while it warms up"
            )
        return self
