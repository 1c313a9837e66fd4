"""What the values of a column are: how many, how often missing, numbers, lists, words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.init import names
from pipelines.init.sample import Sample
from preprocessing.sources.scalars import UnreadableType, is_list, lists, numbers, plain, strings

SEPARATORS = ("|", ";", ",", " ")
_LOOKED_AT = 20_000
"""Distinct values of which words and separators are counted."""


@dataclass(frozen=True)
class Profile:
    """A column of a sample.

    Attributes:
      name: in the file.
      values: the column as the reader gives it.
    """

    name: str
    values: pa.Array

    @cached_property
    def is_readable(self) -> bool:
        """Whether the type is one of those that features, keys and times are read from."""
        try:
            strings(self.flat)
        except UnreadableType:
            return False
        return True

    @cached_property
    def has_lists(self) -> bool:
        """Whether each row holds a list."""
        return is_list(plain(self.values).type)

    @cached_property
    def flat(self) -> pa.Array:
        """The values, those of lists one after the other."""
        column = plain(self.values)
        return lists(column)[1] if is_list(column.type) else column

    @cached_property
    def texts(self) -> pa.Array:
        """The flat values as text, null where they are missing."""
        return strings(self.flat)

    @cached_property
    def rows(self) -> int:
        """Rows of the sample."""
        return len(self.values)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each distinct value occurs, most often first."""
        found = pc.value_counts(self.texts.drop_null())
        counts = found.field("counts").to_numpy(zero_copy_only=False)
        return np.sort(counts)[::-1].astype(np.int64)

    @property
    def distinct(self) -> int:
        """Distinct values."""
        return len(self.counts)

    @property
    def filled(self) -> int:
        """Values that are not missing."""
        return int(self.counts.sum())

    @cached_property
    def missing(self) -> float:
        """Share of rows without a value."""
        if self.has_lists:
            lengths, _ = lists(plain(self.values))
            return float((lengths == 0).mean()) if self.rows else 1.0
        return 1 - self.filled / max(1, self.rows)

    @property
    def most_common(self) -> float:
        """Share of the most frequent value among those that are not missing."""
        return float(self.counts[0] / self.filled) if self.filled else 1.0

    @property
    def repeats(self) -> float:
        """How often a distinct value occurs in the mean."""
        return self.filled / max(1, self.distinct)

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The values as numbers; empty where fewer than 98 % of them are."""
        nothing = np.zeros(0)
        try:
            values, bad = numbers(self.flat)
        except UnreadableType:
            return nothing
        found = values[~np.isnan(values)]
        given = self.filled
        return (
            found if given and (len(found) >= 0.98 * given) and not bad.mean() > 0.02 else nothing
        )

    @cached_property
    def is_number(self) -> bool:
        """Whether the values are numbers, in text too."""
        return len(self.numbers) > 0

    @cached_property
    def is_whole(self) -> bool:
        """Whether they are numbers without fractions."""
        return self.is_number and bool((self.numbers == np.floor(self.numbers)).all())

    @cached_property
    def some(self) -> list[str]:
        """Distinct values as text, some where there are many."""
        return [str(v) for v in pc.unique(self.texts.drop_null())[:_LOOKED_AT].to_pylist()]

    @cached_property
    def words(self) -> float:
        """Words of a value in the median."""
        return float(np.median([len(text.split()) for text in self.some])) if self.some else 0.0

    @cached_property
    def characters(self) -> float:
        """Characters of a value in the median."""
        return float(np.median([len(text) for text in self.some])) if self.some else 0.0

    @cached_property
    def separator(self) -> str | None:
        """What stands between several values of a cell, None where a cell holds one.

        Cut there, cells have to give far fewer distinct values than there are cells, and many of them several: so a
        title with a comma, or of several words, is none.
        """
        if self.has_lists or self.is_number or len(self.some) < 3:
            return None
        for separator in SEPARATORS:
            cells = [[p.strip() for p in text.split(separator) if p.strip()] for text in self.some]
            several = sum(len(cell) > 1 for cell in cells) / len(cells)
            values = {value for cell in cells for value in cell}
            uses = sum(map(len, cells)) / max(1, len(values))
            strict = separator in (",", " ")
            few = len(values) <= len(cells) * (0.5 if strict else 1.0)
            if separator == " " and not (
                _is_ordered(cells) and not names.score(self.name, names.TITLES)
            ):
                continue  # a sentence: kind text takes its words
            if several >= (0.3 if strict else 0.1) and few and uses >= (4 if strict else 1.5):
                return separator
        return None

    def cells(self) -> list[list[str]]:
        """The values of each row of a column of lists, or of text that is cut at its separator."""
        if self.has_lists:
            lengths, _ = lists(plain(self.values))
            ends = np.cumsum(lengths)
            flat = self.texts.to_pylist()
            rows = zip(ends - lengths, ends, strict=True)
            return [[str(v) for v in flat[a:b] if v is not None] for a, b in rows]
        cut = self.separator
        texts = self.texts.drop_null().to_pylist()
        return [[p.strip() for p in str(t).split(cut) if p.strip()] for t in texts]


def _is_ordered(cells: list[list[str]]) -> bool:
    """Whether two values stand in the same order wherever both are: those of a set do, words of sentences do not."""
    before: set[tuple[str, str]] = set()
    for cell in cells:
        if len(set(cell)) < len(cell):
            return False
        before |= {(a, b) for at, a in enumerate(cell) for b in cell[at + 1 :]}
    against = sum((b, a) in before for a, b in before)
    return against <= 0.05 * len(before)


def profiles(sample: Sample) -> dict[str, Profile]:
    """Every column of a sample by its name."""
    return {name: Profile(name, sample.column(name)) for name in sample.names}
