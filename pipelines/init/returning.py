"""Which item features return from one event of a user to the next: those a history is worth being seen through."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.init.facts import Facts
from pipelines.init.profile import Profile

_COMMON = 0.5
"""Values that more items than this share have tell nothing: the root of a tree of categories."""
_ERRORS = 3.0
"""Standard errors that the share has to lie above that of random pairs."""


def returning(facts: Facts, key: Profile, column: Profile) -> tuple[float, float, float]:
    """How much a value says about the next item.

    Args:
      facts: of the log, with pairs of items that a user took one after the other.
      key: of the item table.
      column: of the item table, of single values or several.

    Returns:
      Nats per event that are gained by knowing whether the next item shares a value, the share of pairs that do, and
      that of random pairs. ``s log(s/e) + (1-s) log((1-s)/(1-e))``: 0 where a value returns as often as by chance.
    """
    values = _values_by_item(facts, key, column)
    first, then = facts.pairs.T
    if not len(first):
        return 0.0, 0.0, 0.0
    mixed = np.random.default_rng(0).permutation(then)
    shared, chance = _share(values, first, then), _share(values, first, mixed)
    error = np.sqrt(max(chance, 1e-4) * (1 - min(chance, 1 - 1e-4)) / len(first))
    gain = _gain(shared, chance) if shared - chance > _ERRORS * error else 0.0
    return gain, shared, chance


def _values_by_item(facts: Facts, key: Profile, column: Profile) -> Mapping[int, frozenset[str]]:
    code = {value: at for at, value in enumerate(facts.items_by_code.to_pylist())}
    wanted = set(np.unique(facts.pairs).tolist())
    items = [code.get(value, -1) for value in key.texts.to_pylist()]
    if column.has_lists or column.separator is not None:
        cells = _cells(column)
    else:
        cells = [None if text is None else [text] for text in column.texts.to_pylist()]
    counts = Counter(value for cell in cells if cell for value in set(cell))
    common = {value for value, count in counts.items() if count > _COMMON * len(cells)}
    found: dict[int, frozenset[str]] = defaultdict(frozenset)
    for item, cell in zip(items, cells, strict=True):
        if item in wanted and cell:
            found[item] = frozenset(cell) - common
    return found


def _cells(column: Profile) -> list[list[str] | None]:
    """One list a row, also where a cell is empty."""
    if column.has_lists:
        return list(column.cells())
    cut = column.separator
    split = pc.split_pattern(column.texts, cut).to_pylist()
    return [None if cell is None else [p.strip() for p in cell if p.strip()] for cell in split]


def _share(
    values: Mapping[int, frozenset[str]], first: NDArray[np.int64], then: NDArray[np.int64]
) -> float:
    pairs = zip(first.tolist(), then.tolist(), strict=True)
    hits = sum(not values[a].isdisjoint(values[b]) for a, b in pairs)
    return hits / len(first)


def _gain(shared: float, chance: float) -> float:
    if shared <= chance:
        return 0.0
    s, e = (min(max(value, 1e-4), 1 - 1e-4) for value in (shared, chance))
    return float(s * np.log(s / e) + (1 - s) * np.log((1 - s) / (1 - e)))
