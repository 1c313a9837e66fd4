"""Columns of the tables of items and users to features: kind, width, length, or why a column is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.init import names
from pipelines.init.guess import Guesses
from pipelines.init.profile import Profile
from pipelines.init.times import reading_of
from preprocessing.features import RESERVED_NAMES

WIDTHS = ((16, 4), (64, 8), (1024, 16))
"""Up to so many values an embedding is so wide; beyond, 32."""
EMPTY, CONSTANT, LONG_TEXT, FEW_ROWS = 0.95, 0.99, 200, 3.0


@dataclass(frozen=True)
class Shape:
    """What a column becomes.

    Attributes:
      keys: of the feature, without name, column and side.
      reason: one sentence.
      values: size of its vocabulary, 0 of numbers.
    """

    keys: dict[str, Any]
    reason: str
    values: int = 0


def width(values: int) -> int:
    """The width of an embedding of so many values."""
    return next((wide for most, wide in WIDTHS if values <= most), 32)


def shape_of(profile: Profile) -> Shape | str:
    """The feature that a column becomes, or the reason why it becomes none."""
    if not profile.is_readable:
        return "of a type that no feature is read from"
    if profile.missing >= EMPTY:
        return f"{profile.missing:.0%} of its rows have no value"
    if profile.distinct < 2 or profile.most_common >= CONSTANT:
        return f"{profile.most_common:.0%} of its values are the same"
    if profile.has_lists or profile.separator is not None:
        return _multi(profile)
    if profile.is_number:
        return _number(profile)
    if profile.characters > LONG_TEXT or profile.words > 30:
        return f"long free text ({profile.characters:.0f} characters in the median)"
    if profile.repeats >= FEW_ROWS:
        return _categorical(
            profile, f"{profile.distinct:,} values, each {profile.repeats:.0f} times in the mean"
        )
    if profile.words >= 2 or names.score(profile.name, names.TITLES):
        return _text(profile)
    if reading_of(profile) is not None:
        return "times; a feature of a time needs a number, such as the year"
    return f"nearly every row has a value of its own ({profile.distinct:,} of {profile.filled:,})"


def add_features(
    guesses: Guesses, table: Mapping[str, Profile], key: str, side: str, taken: set[str]
) -> list[tuple[str, str, Shape]]:
    """The features of a table beside its key, in the order of its columns.

    Args:
      guesses: take features and what is left out.
      table: its columns.
      key: that of the key, which is a feature of its own already.
      side: ``item`` or ``query``.
      taken: names of features so far; those that are added here are put in.

    Returns:
      Name, column and shape of what was added.
    """
    whose = "items" if side == "item" else "users"
    added = []
    for column, profile in table.items():
        if column == key:
            continue
        shape = shape_of(profile)
        if isinstance(shape, str):
            guesses.leave(whose, column, shape)
            continue
        name = free_name(column, side, taken)
        entry: dict[str, Any] = {"name": name, "side": side}
        if name != column:
            entry["column"] = column
        guesses.add(f"features.{name}", {**entry, **shape.keys}, shape.reason)
        added.append((name, column, shape))
    return added


def free_name(column: str, side: str, taken: set[str]) -> str:
    """A feature's name that no other has and no field of the examples."""
    name = names.feature_name(column)
    if name in taken or name in RESERVED_NAMES:
        name = f"{side}_{name}"
    while name in taken:
        name += "_2"
    taken.add(name)
    return name


def _categorical(profile: Profile, reason: str) -> Shape:
    keys = {"kind": "categorical", "dim": width(profile.distinct)}
    return Shape(keys, reason, profile.distinct)


def _number(profile: Profile) -> Shape | str:
    names_something = names.score(profile.name, names.CODES) > 0
    if profile.is_whole and (names_something or profile.distinct <= 32):
        if profile.repeats < FEW_ROWS:
            return f"nearly every row has a value of its own ({profile.distinct:,} of {profile.filled:,})"
        why = "whole numbers that name something" if names_something else "few whole numbers"
        return _categorical(profile, f"{why}, {profile.distinct:,} of them")
    if profile.is_whole and profile.distinct >= 0.95 * profile.filled > 100:
        return f"whole numbers, all different ({profile.distinct:,}): a key rather than an amount"
    low, high = np.min(profile.numbers), np.max(profile.numbers)
    keys = {"kind": "numeric", "buckets": 10, "dim": 8}
    return Shape(keys, f"numbers from {low:g} to {high:g}, in tenths of the rows")


def _multi(profile: Profile) -> Shape | str:
    cells = profile.cells()
    counts = Counter(value for cell in cells for value in set(cell))
    if not counts or sum(counts.values()) / len(counts) < FEW_ROWS:
        return f"lists whose values hardly return ({len(counts):,} values)"
    longest = int(np.quantile([len(cell) for cell in cells], 0.95))
    keys: dict[str, Any] = {"kind": "multi", "dim": width(len(counts))}
    if not profile.has_lists and profile.separator != "|":
        keys["separator"] = profile.separator
    keys["max_length"] = max(2, min(longest, 30))
    how = "lists" if profile.has_lists else f"several values a cell, cut at '{profile.separator}'"
    reason = f"{how}; {len(counts):,} values, 95 % of the rows have at most {longest}"
    return Shape(keys, reason, len(counts))


def _text(profile: Profile) -> Shape | str:
    lengths = [len(text.split()) for text in profile.some]
    counts = Counter(word.lower() for text in profile.some for word in set(text.split()))
    returning = sum(1 for count in counts.values() if count > 1)
    if returning < 8:
        return "text whose words do not return in other rows"
    longest = max(2, min(int(np.quantile(lengths, 0.95)), 20))
    keys = {
        "kind": "text",
        "dim": width(returning) // 2 or 4,
        "max_length": longest,
        "min_frequency": 2,
    }
    return Shape(
        keys, f"text of {profile.words:.0f} words in the median, {returning:,} of which return"
    )
