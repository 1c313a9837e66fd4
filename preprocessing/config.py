"""The sections of the configuration that preprocessing reads: data, features and preprocess."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from preprocessing.base.locations import COMPRESSED, is_folder, is_pattern
from preprocessing.features import Feature, FeatureList, Section, Side, checked_features
from preprocessing.sources.times import TimeUnit, check_format
from preprocessing.split_config import Fraction, SplitConfig

Format = Literal["csv", "parquet", "tfrecord", "bigquery"]
_ENDINGS: dict[str, Format] = {
    **{f".{name}{end}": "csv" for name in ("csv", "tsv", "dat") for end in ("", *COMPRESSED)},
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecord.gz": "tfrecord",
}
AS_OF = ("validation", "test", "now")
"""Instants of which `recent_<name>` counts are kept: both splits' starts and the end of the log."""


class TableConfig(Section):
    """Where a table lies: files by pattern, or a BigQuery table."""

    path: str = Field(
        min_length=1, description="file, pattern, folder, or project.dataset.table for BigQuery"
    )
    format: Format | None = Field(None, description="default: by the ending")
    delimiter: str | None = Field(
        None,
        pattern=r'^[^"\r\n\x00\x80-\U0010ffff]$',
        description="csv: one character of ASCII between fields, default: a tab for .tsv, else a comma",
    )
    quoted_line_breaks: bool = Field(
        False, description="csv: whether a quoted value may go on over several lines"
    )

    @property
    def resolved_delimiter(self) -> str:
        """The delimiter, by the ending of the path where it is not given."""
        return self.delimiter or ("\t" if ".tsv" in Path(self.path).suffixes[-2:] else ",")

    @property
    def resolved_format(self) -> Format | None:
        """The format, by the ending of the path where it is not given; None where the files tell it."""
        return self.format or format_of(self.path)

    @model_validator(mode="after")
    def _check(self) -> TableConfig:
        if self.resolved_format is None and not is_folder(self.path) and not is_pattern(self.path):
            raise ValueError(
                f"cannot tell the format of '{self.path}': expected an ending of {', '.join(_ENDINGS)}, a folder, "
                "a pattern, or 'format' to be set"
            )
        return self


def format_of(path: str) -> Format | None:
    """The format of a file by its ending."""
    return next((known for ending, known in _ENDINGS.items() if path.endswith(ending)), None)


class InteractionColumns(Section):
    """Names of the log's own columns."""

    user: str
    item: str
    timestamp: str
    reward: str | None = Field(None, description="weight of an interaction, default: 1")
    split: str | None = Field(None, description="predefined split: train, validation or test")


class RefusedConfig(Section):
    """Which interactions are refusals: items that the user was shown and did not want."""

    column: str | None = Field(None, description="column of the log, default: columns.reward")
    at_most: float = Field(
        allow_inf_nan=False, description="interactions with this value or a lower one"
    )


class DataConfig(Section):
    """The sources: a log, a catalogue (optional) and a table of users (optional)."""

    dataset: Literal["complete_journey", "movielens_1m", "movielens_100k"] | None = Field(
        None, description="public data set that is fetched into the working directory first"
    )
    interactions: TableConfig
    items: TableConfig | None = None
    users: TableConfig | None = None
    columns: InteractionColumns
    item_key: str | None = Field(None, description="key of the item table, default: columns.item")
    user_key: str | None = Field(None, description="key of the user table, default: columns.user")
    item_title: list[str] = Field(
        default_factory=list, description="columns of the item table shown to people"
    )
    timestamp_format: str | None = Field(
        None, description="strptime format of times as text, default: ISO 8601"
    )
    timestamp_unit: TimeUnit | None = Field(
        None,
        description="of times as numbers: s, ms, us or ns since 1970, or date (20240105); default: s",
    )
    any_time_range: bool = Field(
        False, description="accept a log before 1980, in the future or of two minutes"
    )
    min_reward: float | None = Field(
        None, description="interactions with a lower reward are no positives"
    )
    refused: RefusedConfig | None = Field(
        None, description="interactions that are explicit negatives, default: none"
    )
    reward_weights: bool = Field(False, description="weigh training examples by their reward")

    @property
    def refused_column(self) -> str | None:
        """The column that tells refusals, None where there are none."""
        return (self.refused.column or self.columns.reward) if self.refused else None

    @model_validator(mode="after")
    def _check_times(self) -> DataConfig:
        if self.timestamp_format is not None and self.timestamp_unit is not None:
            raise ValueError(
                "expected timestamp_format (of text) or timestamp_unit (of numbers), received both"
            )
        if "%Z" in (self.timestamp_format or ""):
            raise ValueError(
                "timestamp_format: names of zones (%Z) are ambiguous; expected %z, an offset such as +0900, or the "
                "name as plain text where it is always UTC"
            )
        if self.timestamp_format is not None:
            check_format(self.timestamp_format)
        return self

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        for name, is_set in (
            ("min_reward", self.min_reward is not None),
            ("reward_weights", self.reward_weights),
        ):
            if is_set and self.columns.reward is None:
                raise ValueError(
                    f"{name} is about the column that columns.reward names, which is missing: name it, or "
                    f"leave {name} out"
                )
        if self.refused is None:
            return self
        if self.refused_column is None:
            raise ValueError(
                "expected refused.column or columns.reward to name the column of refusals, received neither"
            )
        same = self.refused_column == self.columns.reward
        if same and self.min_reward is not None and self.refused.at_most >= self.min_reward:
            raise ValueError(
                f"expected refused.at_most below min_reward={self.min_reward:g}, which reads the same column, "
                f"received {self.refused.at_most:g}: an interaction is a positive or a refusal"
            )
        return self


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
    max_rejected_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
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

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    work_dir: str = Field(description="where every artifact goes")
    seed: NonNegativeInt = 42
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
                "split.method 'column' expected data.columns.split to name the column, received none"
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
                raise ValueError(f"item features {beyond} need data.items, received none")
        if self.data.users is None:
            beyond = [
                f.name
                for f in listed.query_columns
                if f.side is Side.QUERY and f.source != self.data.columns.user
            ]
            if beyond:
                raise ValueError(
                    f"query features {beyond} need data.users, received none; a column of the log is side 'context'"
                )
        return self
