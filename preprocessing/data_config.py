"""The section of the configuration about sources: the tables, their columns, and what is a positive."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from preprocessing.event_config import EventWeights, check_events
from preprocessing.features import Section
from preprocessing.sources.times import TimeUnit, check_format
from preprocessing.table_config import TableConfig


class InteractionColumns(Section):
    """Names of the log's own columns."""

    user: str = Field(description="key of the user")
    item: str = Field(description="key of the item")
    timestamp: str = Field(description="when the event took place, see data.timestamp_unit")
    reward: str | None = Field(None, description="weight of an interaction, default: 1")
    event: str | None = Field(None, description="kind of event, see data.events")
    split: str | None = Field(None, description="predefined split: train, validation or test")


class RefusedConfig(Section):
    """Which interactions are refusals: items that the user was shown and did not want."""

    column: str | None = Field(
        None, description="column of the log, default: columns.reward, or what data.events says"
    )
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
    events: EventWeights | None = Field(
        None,
        description="of a log of several kinds of events (columns.event): the reward of each kind, of which those "
        "above 0 are positives; rows of other kinds are set aside",
    )
    min_reward: float | None = Field(
        None, description="interactions with a lower reward are no positives"
    )
    refused: RefusedConfig | None = Field(
        None, description="interactions that are explicit negatives, default: none"
    )
    reward_weights: bool = Field(
        False,
        description="weigh training examples by their reward, default: true with data.events",
    )

    @property
    def refused_column(self) -> str | None:
        """The column that tells refusals, None where there are none or ``events`` tells them."""
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

    @model_validator(mode="before")
    @classmethod
    def _weigh_events(cls, given: Any) -> Any:
        """Weights that differ are meant to weigh."""
        if isinstance(given, dict) and given.get("events") and "reward_weights" not in given:
            return {**given, "reward_weights": True}
        return given

    @model_validator(mode="after")
    def _check_events(self) -> DataConfig:
        check_events(
            self.events,
            self.columns.event,
            reward=self.columns.reward,
            min_reward=self.min_reward,
            at_most=self.refused.at_most if self.refused else None,
            refused_column=self.refused_column,
        )
        return self

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        for name, is_set in (
            ("min_reward", self.min_reward is not None),
            ("reward_weights", self.reward_weights),
        ):
            if is_set and self.columns.reward is None and self.events is None:
                raise ValueError(
                    f"{name} is about the column that columns.reward names, which is missing: name it, or "
                    f"leave {name} out"
                )
        if self.refused is None:
            return self
        if self.refused_column is None and self.events is None:
            raise ValueError(
                "the column of refusals is missing: name it in refused.column or columns.reward"
            )
        same = self.events is None and self.refused_column == self.columns.reward
        if same and self.min_reward is not None and self.refused.at_most >= self.min_reward:
            raise ValueError(
                f"expected refused.at_most below min_reward={self.min_reward:g}, which reads the same column, "
                f"received {self.refused.at_most:g}: an interaction is a positive or a refusal"
            )
        return self
