"""The key of a table of items or users: a column whose values are all different, and those of a column of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from pipelines.init import names
from pipelines.init.profile import Profile
from preprocessing.sources.scalars import true

UNIQUE, ENOUGH, NAMED = 0.99, 0.5, 0.02
"""Share of distinct values of a key, and of the log's values that it has to hold; of a key that has the log's name."""


@dataclass(frozen=True)
class Key:
    """A column of a table that a column of the log refers to.

    Attributes:
      column: of the table.
      share: of the distinct values of the log's sample that are in it.
    """

    column: str
    share: float


def keys_of(table: Mapping[str, Profile], log: Mapping[str, Profile]) -> dict[str, Key]:
    """By column of the log, the best key of the table.

    Small whole numbers are found in many columns, so that of several columns of the log only those are kept whose name
    is the key's, where there is one.
    """
    unique = {
        name: profile.texts
        for name, profile in table.items()
        if not profile.has_lists
        and profile.is_readable
        and profile.filled
        and profile.distinct >= UNIQUE * profile.filled
        and profile.missing < 0.01
    }
    found: dict[str, tuple[Key, bool]] = {}
    for column, profile in log.items():
        if profile.has_lists or not profile.is_readable or profile.distinct < 2:
            continue
        asked = pc.unique(profile.texts.drop_null())
        best: tuple[bool, float, str] | None = None
        for name, values in unique.items():
            share = float(true(pc.is_in(asked, value_set=values)).mean())
            same = names.words(name) == names.words(column)
            if share >= (NAMED if same else ENOUGH) and (best is None or (same, share) > best[:2]):
                best = (same, share, name)
        if best is not None:
            found[column] = (Key(best[2], best[1]), best[0])
    named = {column: key for column, (key, same) in found.items() if same}
    return named or {column: key for column, (key, _) in found.items()}
