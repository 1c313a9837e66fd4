"""Puts the guesses together: from the samples of the tables to all sections of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.init import model, rewards, training
from pipelines.init.facts import Facts, facts, rewards_of
from pipelines.init.features import add_features, free_name
from pipelines.init.form import NO_NAME
from pipelines.init.guess import Guesses
from pipelines.init.keys import Key, keys_of
from pipelines.init.names import REWARDS, TITLES, score
from pipelines.init.profile import Profile, profiles
from pipelines.init.roles import Candidates, Roles, candidates, settle
from pipelines.init.sample import Sample
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import is_remote

_GENERAL = (
    "interactions",
    "ratings",
    "events",
    "log",
    "logs",
    "data",
    "train",
    "transactions",
    "reviews",
    "orders",
)
"""Names of files that say nothing of whose they are: the folder's is taken."""


@dataclass(frozen=True)
class Tables:
    """Samples of the log and of the tables that there are."""

    log: Sample
    items: Sample | None
    users: Sample | None


@dataclass(frozen=True)
class Found:
    """Candidates of the roles, and the keys of both tables by column of the log."""

    candidates: Candidates
    items: Mapping[str, Profile]
    users: Mapping[str, Profile]
    item_keys: Mapping[str, Key]
    user_keys: Mapping[str, Key]


def name_of(path: str) -> str:
    """A name for the run: that of the file without endings, or of its folder where the file's is a common one."""
    parts = [part for part in path.split("/") if part and not part.startswith(".")]
    stems = [_plain(part.partition(".")[0]) for part in reversed(parts[-2:])]
    said = [stem for stem in stems if stem and stem.lower() not in _GENERAL]
    return (said or stems or ["run"])[0] or "run"


def _plain(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")


def find(tables: Tables, given: Mapping[str, str]) -> Found:
    """What may have each role, and the keys of the tables.

    Raises:
      LongtailError: a column that the user named is not there.
    """
    log = profiles(tables.log)
    items = profiles(tables.items) if tables.items else {}
    users = profiles(tables.users) if tables.users else {}
    item_keys, user_keys = keys_of(items, log), keys_of(users, log)
    return Found(
        candidates(tables.log.form.path, log, given, item_keys, user_keys),
        items,
        users,
        item_keys,
        user_keys,
    )


def guess(name: str, tables: Tables, found: Found, answers: Mapping[str, str]) -> Guesses:
    """All sections.

    Raises:
      LongtailError: a role cannot be told, or a table has no key for it.
    """
    roles = settle(found.candidates, answers)
    guesses = Guesses()
    guesses.add("name", name, "")
    guesses.add("work_dir", f"runs/{name}", "where every artifact goes")
    _sources(guesses, tables)
    least = _roles(guesses, roles, tables.log)
    counted = facts(tables.log, roles, least)
    item_key = _key(guesses, "item", roles, tables.items, found.item_keys)
    user_key = _key(guesses, "user", roles, tables.users, found.user_keys)
    _features(guesses, roles, counted, found, item_key, user_key)
    training.add_split(guesses, counted, roles)
    training.add_examples(guesses, counted)
    model.add_model(guesses, counted, by_time=training.is_by_time(guesses))
    return guesses


def _sources(guesses: Guesses, tables: Tables) -> None:
    for name, sample in (
        ("interactions", tables.log),
        ("items", tables.items),
        ("users", tables.users),
    ):
        if sample is None:
            continue
        section = dict(sample.form.section)
        if not is_remote(section["path"]):
            section["path"] = str(Path(section["path"]))
        reasons = [f"{key}: {why}" for key, why in sample.form.reasons.items()]
        guesses.add(f"data.{name}", section, "; ".join([sample.size, *reasons]))


def _roles(guesses: Guesses, roles: Roles, log: Sample) -> float | None:
    """Columns and times; returns the lowest reward of a positive."""
    for role, column in roles.columns.items():
        guesses.add(f"data.columns.{role}", column, roles.reasons[role])
    time = roles.time
    if time.text_format is not None:
        guesses.add("data.timestamp_format", time.text_format, time.reason)
    if time.unit is not None:
        guesses.add("data.timestamp_unit", time.unit, time.reason)
    if time.is_order:
        guesses.add("data.any_time_range", True, "the column counts events and tells no times")
    if "event" in roles.columns:
        kinds = Profile("", log.column(roles.columns["event"])).some
        rewards.add_events(guesses, kinds)
    if "reward" not in roles.columns:
        return None
    column = roles.columns["reward"]
    values = rewards_of(log, column)
    if len(values) < 2 or values.min() == values.max():
        raise LongtailError(
            f"{log.form.path}: expected numbers of more than one value in '{column}', the reward, found none: leave "
            "--reward out, or name another column"
        )
    if not score(column, REWARDS) and not column.startswith(NO_NAME):
        guesses.add(
            "data.reward_weights", True, "an amount and no rating: a training example weighs it"
        )
        return None
    least, why = rewards.min_reward(values)
    guesses.add("data.min_reward", int(least) if least == int(least) else least, why)
    return least


def _key(
    guesses: Guesses, side: str, roles: Roles, table: Sample | None, keys: Mapping[str, Key]
) -> str:
    """The key of a table, or the log's own column where there is no table."""
    column = roles.columns[side]
    if table is None:
        return column
    if column not in keys:
        raise LongtailError(
            f"{table.form.path}: no column holds each value once and the values of '{column}' of the log: expected the "
            f"table of {side}s to have such a key; correct the table, or name another column with --{side} COLUMN"
        )
    key = keys[column]
    if key.column != column:
        guesses.add(
            f"data.{side}_key",
            key.column,
            f"holds {key.share:.0%} of the values of '{column}', each in one row",
        )
    return key.column


def _features(
    guesses: Guesses, roles: Roles, counted: Facts, seen: Found, item_key: str, user_key: str
) -> None:
    titles = [
        name
        for name, profile in seen.items.items()
        if name != item_key
        and score(name, TITLES)
        and not profile.has_lists
        and profile.missing < 0.5
    ]
    if titles:
        guesses.add("data.item_title", titles[:1], "what people read in a report")
    taken: set[str] = set()
    user = free_name(user_key, "query", taken)
    guesses.add(
        f"features.{user}",
        _entry(user, user_key, "query", model.user_width(counted)),
        f"{counted.users:,} users{counted.counted}",
    )
    add_features(guesses, seen.users, user_key, "query", taken)
    item = free_name(item_key, "item", taken)
    history_at = len(guesses.made)
    guesses.add(
        f"features.{item}",
        _entry(item, item_key, "item", 64),
        f"{counted.items:,} items{counted.counted}",
    )
    shapes = add_features(guesses, seen.items, item_key, "item", taken)
    views = model.history_views(shapes, seen.items, item_key, counted)
    guesses.made[history_at:history_at] = _histories(counted, item, views, taken)
    for name in seen.candidates.profiles:
        if name not in roles.columns.values():
            guesses.leave(
                "log",
                name,
                "a column of the log would have to come with each request (side: context)",
            )


def _histories(
    counted: Facts, item: str, more: list[tuple[str, str]], taken: set[str]
) -> list[Any]:
    length = training.history_length(counted)
    made = Guesses()
    views = [(item, f"a user has {counted.median:g} events in the median")]
    for owner, why in [*views, *more]:
        name = free_name(f"history_{owner}", "query", taken)
        entry = {"name": name, "side": "query", "kind": "sequence", "shared_with": owner}
        made.add(f"features.{name}", {**entry, "max_length": length}, why)
    return made.made


def _entry(name: str, column: str, side: str, dim: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "side": side}
    if name != column:
        found["column"] = column
    return {**found, "kind": "id", "dim": dim}
