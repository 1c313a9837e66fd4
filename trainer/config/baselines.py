"""The sections of the baselines: what each is tuned over."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from preprocessing.features import Section


class ALSConfig(Section):
    """Implicit ALS (package ``implicit``): values tried on validation, one setting after the other."""

    alpha: list[PositiveFloat] = Field(
        default=[1.0, 3.0],
        min_length=1,
        description="tried weights of an event beside a missing one",
    )
    regularization: list[PositiveFloat] = Field(
        default=[0.1, 1.0], min_length=1, description="tried weights of the factors' norm"
    )
    factors: list[PositiveInt] = Field(
        default=[32, 64, 128], min_length=1, description="tried widths of the vectors"
    )
    iterations: PositiveInt = Field(10, description="of each fit")
    popularity_weight: list[PositiveFloat] = Field(
        default=[0.05, 0.02, 0.1, 0.2],
        min_length=1,
        description="of log P of late in the scores of `als_recent`",
    )

    @property
    def grid(self) -> dict[str, list[Any]]:
        """What a search goes through, the cheapest factors first."""
        return {
            "alpha": self.alpha,
            "regularization": self.regularization,
            "factors": self.factors,
        }


class NeighboursConfig(Section):
    """Item-item neighbourhoods (package ``implicit``): values tried on validation, one after the other."""

    weighting: list[Literal["tfidf", "cosine", "bm25"]] = Field(
        default=["tfidf", "cosine", "bm25"],
        min_length=1,
        description="tried measures of likeness",
    )
    neighbours: list[PositiveInt] = Field(
        default=[50, 200], min_length=1, description="most similar items that each item keeps"
    )

    @property
    def grid(self) -> dict[str, list[Any]]:
        """What a search goes through."""
        return {"weighting": list(self.weighting), "neighbours": self.neighbours}
