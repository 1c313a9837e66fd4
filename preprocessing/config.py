"""The sections of the configuration that preprocessing reads: data, features and preprocess."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from preprocessing.data_config import DataConfig, InteractionColumns, RefusedConfig
from preprocessing.features import Feature, FeatureList, Section, Side, checked_features
from preprocessing.split_config import Fraction, SplitConfig
from preprocessing.table_config import TableConfig

__all__ = [
    "AS_OF",
    "DataConfig",
    "DataSections",
    "InteractionColumns",
    "PreprocessConfig",
    "RefusedConfig",
    "TableConfig",
]

AS_OF = ("validation", "test", "now")
"""Instants of which `recent_<name>` counts are kept: both splits' starts and the end of the log."""


class PreprocessConfig(Section):
    """What preprocessing does with the sources."""

    split: SplitConfig = SplitConfig()
    examples: Literal["all", "first"] = Field(
        "all", description="train on all interactions, or on the first of each user with an item"
    )
    min_item_count: PositiveInt = Field(
        1, description="items with fewer training interactions do not train"
    )
    min_user_count: PositiveInt = Field(
        1, description="users with fewer training interactions do not train"
    )
    half_life_days: PositiveFloat = Field(
        30.0, description="recent counts of items: an event weighs 2^(-age / half-life)"
    )
    max_refused: PositiveInt = Field(
        8, description="refusals that a training example carries at most, the newest"
    )
    max_rejected_fraction: float = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="share of the log's rows that may be rejected; more stop the run",
    )
    sample_users: Fraction | None = Field(
        None, description="keep this share of the users (by hash): a quick look"
    )
    rows_per_partition: PositiveInt = Field(
        100_000, description="memory bound: interactions held at once"
    )
    batch_rows: PositiveInt = Field(16_384, description="rows of a record batch")
    runner: str = Field("DirectRunner", description="any Beam runner")
    beam_options: list[str] = Field(
        default_factory=list, description="Beam's own options, e.g. --project=p"
    )


class DataSections(Section):
    """What ``python -m preprocessing.run`` needs of a configuration file."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="of the model: folder of versions and name at serving",
    )
    work_dir: str = Field(description="where every artifact goes")
    seed: NonNegativeInt = Field(
        42, description="of every draw; the same seed gives the same model"
    )
    data: DataConfig
    features: list[Feature]
    preprocess: PreprocessConfig = PreprocessConfig()

    @property
    def feature_list(self) -> FeatureList:
        """The features with their look-ups."""
        return FeatureList(tuple(self.features))

    @model_validator(mode="after")
    def _check(self) -> DataSections:
        listed = checked_features(self.features)
        if self.preprocess.split.method == "column" and not self.data.columns.split:
            raise ValueError(
                "data.columns.split is missing: preprocess.split.method 'column' reads each event's part from it"
            )
        if self.preprocess.split.method != "column" and self.data.columns.split:
            raise ValueError(
                f"data.columns.split names column '{self.data.columns.split}', which only preprocess.split.method: "
                f"column reads, received method '{self.preprocess.split.method}': change the method, or leave the "
                "column out"
            )
        if self.data.items is None:
            beyond = [f.name for f in listed.item_columns if f.source != self.data.columns.item]
            if beyond:
                raise ValueError(
                    f"data.items is missing: the item features {beyond} are columns of the catalogue"
                )
        if self.data.users is None:
            beyond = [
                f.name
                for f in listed.query_columns
                if f.side is Side.QUERY and f.source != self.data.columns.user
            ]
            if beyond:
                raise ValueError(
                    f"data.users is missing: the query features {beyond} are columns of a table of users; a "
                    "column of the log is side 'context'"
                )
        return self
