"""The sections of the configuration that export and serving read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from preprocessing.base.variants import name_of, refuse_unread
from preprocessing.features import Section
from serving.index.registry import INDEXES
from serving.request_limits import MAX_BATCH
from trainer.config.sections import TrainerSections


class ScannConfig(Section):
    """The ScaNN index: partitions searched, quantisation and exact reordering."""

    leaves: PositiveInt | None = Field(
        None,
        description="partitions, default: square root of the items; brute force below 20,000",
    )
    leaves_to_search: PositiveInt | None = Field(
        None, description="default: a tenth of the leaves, at least 100"
    )
    dimensions_per_block: PositiveInt = Field(
        2, description="dimensions that share a code of 4 bits"
    )
    anisotropic_threshold: PositiveFloat = Field(
        0.2, description="Guo et al. 2020: weighs errors along the item vector"
    )
    reorder: PositiveInt = Field(500, description="candidates rescored exactly")
    min_recall: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.9, description="below it against exact, the export fails"
    )

    @model_validator(mode="after")
    def _check(self) -> ScannConfig:
        if self.leaves and self.leaves_to_search and self.leaves_to_search > self.leaves:
            raise ValueError(
                f"expected leaves_to_search at most leaves, received {self.leaves_to_search} and "
                f"{self.leaves}"
            )
        return self


class ExportConfig(Section):
    """What the SavedModel holds."""

    index: name_of(INDEXES) = Field(  # type: ignore[valid-type]
        "exact", description="; ".join(f"{name}: {kind.says}" for name, kind in INDEXES.items())
    )
    k: PositiveInt = Field(100, description="items of serving_default and similar_items")
    max_k: PositiveInt = Field(
        1_000, description="largest k that a request to recommend may ask for"
    )
    max_batch: Annotated[int, Field(ge=64)] = Field(
        MAX_BATCH, description="most queries or items that one request may hold"
    )
    scann: ScannConfig = ScannConfig()
    warmup_requests: Annotated[int, Field(ge=1, le=900)] = Field(
        10,
        description="queries that a server answers before it serves the version (1,000 at most)",
    )

    @model_validator(mode="after")
    def _check(self) -> ExportConfig:
        if self.k > self.max_k:
            raise ValueError(
                f"expected k at most max_k, received k={self.k} and max_k={self.max_k}"
            )
        readers = {kind.section: name for name, kind in INDEXES.items() if kind.section}
        refuse_unread(self, "index", readers)
        return self


class ServingSections(TrainerSections):
    """What export and serving need of a configuration file."""

    export: ExportConfig = ExportConfig()
