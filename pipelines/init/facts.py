"""What the whole log says: users, items, length of histories, how often an item is taken again, who is held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.init.roles import Roles
from pipelines.init.sample import Sample, read_columns
from preprocessing.base.errors import LongtailError
from preprocessing.sources.scalars import keys, numbers
from preprocessing.sources.times import microseconds

LIMIT = 5_000_000
"""Rows of the log that are counted at most, the first ones."""
_DAY = 86_400 * 10**6
_PAIRS = 20_000


@dataclass(frozen=True)
class HeldOut:
    """Those who would be evaluated if the last share of the events were held out.

    Attributes:
      users: who have events there.
      known: who have events before, too.
      before: events that the median of them has before.
    """

    users: int
    known: int
    before: float


@dataclass(frozen=True)
class Facts:
    """Counts of the events that are positives and whose user, item and time can be read.

    Attributes:
      rows: that were read.
      is_whole: whether these are all.
      unreadable: share of them without user, item, time or reward.
      events, users, items: what is left.
      median: events of a user.
      repeats: share of the events whose user had the item before.
      days: from the first event to the last.
      held_out: by share of the events, the last ones.
      pairs: codes [pairs, 2] of different items that a user took one after the other, some of them at random.
      items_by_code: the key of each code.
    """

    rows: int
    is_whole: bool
    unreadable: float
    events: int
    users: int
    items: int
    median: float
    repeats: float
    days: float
    held_out: dict[tuple[float, float], HeldOut]
    pairs: NDArray[np.int64]
    items_by_code: pa.Array

    @property
    def counted(self) -> str:
        """Where the figures come from."""
        return "" if self.is_whole else f" in the first {self.rows:,} rows"


def rewards_of(sample: Sample, column: str) -> NDArray[np.float64]:
    """The rewards of the sample that are numbers."""
    values, _ = numbers(sample.column(column))
    return values[~np.isnan(values)]


def facts(sample: Sample, roles: Roles, min_reward: float | None) -> Facts:
    """Count the whole log, or its first ``LIMIT`` rows.

    Raises:
      LongtailError: nothing is left.
    """
    wanted = [roles.columns[name] for name in ("user", "item", "timestamp")]
    reward = roles.columns.get("reward")
    table, is_whole = read_columns(sample, wanted + ([reward] if reward else []), LIMIT)
    table = table.combine_chunks()
    user, bad_user = keys(_one(table, wanted[0]))
    item, bad_item = keys(_one(table, wanted[1]))
    time, is_time = microseconds(
        _one(table, wanted[2]), roles.time.text_format, roles.time.unit or "s"
    )
    good = (bad_user == 0) & (bad_item == 0) & is_time
    if reward:
        values, _ = numbers(_one(table, reward))
        good &= ~np.isnan(values)
    unreadable = 1 - float(good.mean())
    if reward and min_reward is not None:
        good &= np.nan_to_num(values, nan=-np.inf) >= min_reward
    if not good.any():
        raise LongtailError(
            f"{sample.form.path}: no row has a user, an item and a time that can be read: name the columns "
            "with --user, --item and --timestamp"
        )
    at = np.flatnonzero(good)
    at = at[np.argsort(time[at], kind="stable")]
    users, user_codes = _codes(user, at)
    items, item_codes = _codes(item, at)
    pair = np.sort(user_codes * len(items) + item_codes)
    per_user = np.bincount(user_codes)
    return Facts(
        rows=table.num_rows,
        is_whole=is_whole,
        unreadable=unreadable,
        events=len(at),
        users=len(users),
        items=len(items),
        median=float(np.median(per_user)),
        repeats=float((np.diff(pair) == 0).sum() / len(at)),
        days=float((time[at[-1]] - time[at[0]]) / _DAY),
        held_out={
            share: _held_out(user_codes, share)
            for share in ((0.15, 0.1), (0.2, 0.1), (0.25, 0.1), (0.1, 0.0))
        },
        pairs=_pairs(user_codes, item_codes),
        items_by_code=items,
    )


def _pairs(user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.int64]:
    """Items [pairs, 2] of neighbouring events of one user, in random order."""
    by_user = np.argsort(user, kind="stable")
    user, item = user[by_user], item[by_user]
    at = np.flatnonzero((user[1:] == user[:-1]) & (item[1:] != item[:-1]))
    at = np.random.default_rng(0).permutation(at)[:_PAIRS]
    return np.stack([item[at], item[at + 1]], axis=1)


def _held_out(user: NDArray[np.int64], share: tuple[float, float]) -> HeldOut:
    """Users of the events from the last ``share[0]`` to the last ``share[1]`` of all."""
    first, end = (int(len(user) * (1 - part)) for part in share)
    before = np.bincount(user[:first], minlength=int(user.max()) + 1)
    there = before[np.unique(user[first:end])]
    return HeldOut(
        len(there), int((there > 0).sum()), float(np.median(there)) if len(there) else 0.0
    )


def _codes(values: pa.Array, at: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.int64]]:
    encoded = pc.dictionary_encode(values.take(pa.array(at)))
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
