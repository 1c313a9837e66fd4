"""The feature list: each column is named once, and everything else derives from it.

Parse specs, the TF-Transform function, embedding layers, masks and serving signatures all read these objects.
Index conventions of transformed values: 0 is padding, missing or masked; ``1..V`` are vocabulary entries by
falling frequency; ``V+1..V+num_oov_buckets`` are hashed buckets of values outside the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

RESERVED_NAMES = frozenset(
    [
        "history",
        "item",
        "reward",
        "timestamp",
        "targets",
        "seen",
        "seen_counts",
        "user",
        "user_row",
        "refused",
        "place",
        "row",
        "title",
        "exclude",
        "k",
        "item_ids",
        "scores",
        "embedding",
    ]
)


class Section(BaseModel):
    """A frozen piece of the configuration; unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Side(str, Enum):
    """Whom a feature describes."""

    QUERY = "query"
    ITEM = "item"
    CONTEXT = "context"


class Kind(str, Enum):
    """How a column is read and transformed."""

    ID = "id"
    CATEGORICAL = "categorical"
    MULTI = "multi"
    NUMERIC = "numeric"
    SEQUENCE = "sequence"
    TEXT = "text"


class Feature(Section):
    """One column: its side, kind, vocabulary, embedding and whether self-supervision may mask it."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="of the feature, and of its input at serving",
    )
    side: Side = Field(
        description="query: of the user; context: of the event; item: of the catalogue"
    )
    kind: Kind = Field(description="what the values are, see your_data.md")
    column: str | None = Field(None, description="column of the source, default: the name")
    dim: PositiveInt = Field(32, description="width of the embedding")
    num_oov_buckets: PositiveInt = Field(
        1, description="hashed buckets for values outside the vocabulary"
    )
    max_vocabulary: PositiveInt | None = Field(None, description="keep the most frequent values")
    min_frequency: PositiveInt = Field(1, description="rarer values go to the hashed buckets")
    buckets: PositiveInt | None = Field(
        None, description="numeric: quantile buckets, default: z-score"
    )
    separator: str = Field("|", min_length=1, description="multi: separator inside a string cell")
    weights_column: str | None = Field(None, description="multi: column with one weight a value")
    max_length: PositiveInt = Field(50, description="multi, text and sequence: values kept")
    shared_with: str | None = Field(
        None, description="embedding (and vocabulary) of another feature"
    )
    maskable: bool | None = Field(None, description="may SSL mask it, default: every item feature")

    @property
    def source(self) -> str:
        """The column of the source table."""
        return self.column or self.name

    @property
    def is_embedded(self) -> bool:
        """Whether its transformed values are indices into an embedding table."""
        return self.kind is not Kind.NUMERIC or self.buckets is not None

    @property
    def is_multivalued(self) -> bool:
        """Whether a row holds a list of values."""
        return self.kind in (Kind.MULTI, Kind.TEXT, Kind.SEQUENCE)

    @property
    def weights_name(self) -> str | None:
        """The transformed tensor with the weights of a weighted multi-valued feature."""
        return f"{self.name}_weights" if self.weights_column else None

    @model_validator(mode="after")
    def _check(self) -> Feature:
        if self.kind is Kind.SEQUENCE and (self.side is not Side.QUERY or not self.shared_with):
            raise ValueError(
                f"feature '{self.name}' is a sequence: expected side 'query' and 'shared_with' naming an item "
                f"feature, received side '{self.side.value}' and shared_with={self.shared_with!r}"
            )
        if self.buckets and self.kind is not Kind.NUMERIC:
            raise ValueError(
                f"feature '{self.name}': 'buckets' goes with kind 'numeric', received '{self.kind.value}'"
            )
        if self.buckets == 1:
            raise ValueError(f"feature '{self.name}': expected at least 2 buckets, received 1")
        if self.weights_column and self.kind is not Kind.MULTI:
            raise ValueError(
                f"feature '{self.name}': 'weights_column' goes with kind 'multi', received '{self.kind.value}'"
            )
        if self.maskable and self.side is not Side.ITEM:
            raise ValueError(
                f"feature '{self.name}': only item features are maskable, received side '{self.side.value}'"
            )
        return self


@dataclass(frozen=True)
class FeatureList:
    """All features in order, with the look-ups that the packages share."""

    features: tuple[Feature, ...]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [f.name for f in self]

    def get(self, name: str) -> Feature:
        """The feature of that name."""
        return next(f for f in self if f.name == name)

    def where(self, keep: Callable[[Feature], bool]) -> FeatureList:
        """The features that a predicate keeps, in order."""
        return FeatureList(tuple(f for f in self if keep(f)))

    def of(self, *sides: Side) -> FeatureList:
        """Features of the given sides, in order."""
        return self.where(lambda f: f.side in sides)

    @property
    def query_columns(self) -> FeatureList:
        """Query and context features that have a column of their own: all but the histories."""
        return self.of(Side.QUERY, Side.CONTEXT).where(lambda f: f.kind is not Kind.SEQUENCE)

    @property
    def item_columns(self) -> FeatureList:
        """Features of the item table."""
        return self.of(Side.ITEM)

    @property
    def sequences(self) -> FeatureList:
        """Views of the history, each through the embedding of an item feature."""
        return self.where(lambda f: f.kind is Kind.SEQUENCE)

    @property
    def maskable(self) -> FeatureList:
        """Item features that self-supervision may mask."""
        return self.of(Side.ITEM).where(lambda f: f.maskable is not False)

    @property
    def history_length(self) -> int:
        """Items of history that an example holds: the longest that any sequence asks for, 0 without one."""
        return max((f.max_length for f in self.sequences), default=0)

    def table_of(self, feature: Feature) -> str:
        """The name of the embedding table (and vocabulary) that a feature uses."""
        while feature.shared_with:
            feature = self.get(feature.shared_with)
        return feature.name


def checked_features(features: list[Feature]) -> FeatureList:
    """The list as a whole: unique names, one item id, sharing that makes sense.

    Raises:
      ValueError: expected, received and remedy in the message.
    """
    listed = FeatureList(tuple(features))
    names = listed.names
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"expected every feature name once, received twice: {', '.join(twice)}")
    reserved = sorted(RESERVED_NAMES & {f.name for f in listed if f.kind is not Kind.SEQUENCE})
    if reserved:
        raise ValueError(
            f"feature names {reserved} are reserved for fields of the examples: name them otherwise "
            "and give the source's name as 'column'"
        )
    if not len(listed.item_columns):
        raise ValueError("a feature of side 'item' is missing: list at least one")
    if not len(listed.of(Side.QUERY)):
        raise ValueError("a feature of side 'query' is missing: list at least one")
    for feature in listed:
        if feature.shared_with is None:
            continue
        if feature.shared_with not in names:
            raise ValueError(
                f"feature '{feature.name}': shared_with names '{feature.shared_with}', which is not in the list"
            )
        owner = listed.get(feature.shared_with)
        wanted = Side.ITEM if feature.kind is Kind.SEQUENCE else feature.side
        if (
            owner.side is not wanted
            or not owner.is_embedded
            or owner.kind is Kind.SEQUENCE
            or owner.shared_with
        ):
            raise ValueError(
                f"feature '{feature.name}': shared_with expected an embedded {wanted.value} feature with a table "
                f"of its own, received '{owner.name}' ({owner.side.value}, {owner.kind.value})"
            )
    return listed
