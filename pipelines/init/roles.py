"""Which column of the log is the user, the item, the time, the reward and the kind of event."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.init import names
from pipelines.init.form import NO_NAME
from pipelines.init.keys import Key
from pipelines.init.profile import Profile
from pipelines.init.times import TimeReading, reading_of
from preprocessing.base.errors import LongtailError

_OPTIONS = {"user": "--user", "item": "--item", "timestamp": "--timestamp", "reward": "--reward"}
_MEANS = {
    "user": "the user (who acts)",
    "item": "the item (what is acted upon)",
    "timestamp": "the time of an event",
}


@dataclass(frozen=True)
class Candidate:
    """A column that may have a role; the more, the higher its rank is."""

    column: str
    rank: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Roles:
    """The columns of the log by what they are for, and why.

    Attributes:
      columns: ``user``, ``item`` and ``timestamp``, and of ``reward`` and ``event`` what there is.
      reasons: one sentence for each.
      time: how the times are read.
    """

    columns: Mapping[str, str]
    reasons: Mapping[str, str]
    time: TimeReading


@dataclass
class Candidates:
    """What may have each role, best first."""

    log: str
    profiles: Mapping[str, Profile]
    given: Mapping[str, str]
    of: dict[str, list[Candidate]] = field(default_factory=dict)
    times: dict[str, TimeReading] = field(default_factory=dict)

    def choose(self, role: str) -> Candidate:
        """The one that the user named, else the best.

        Raises:
          LongtailError: there is none, or two are equally good; names them and the option that settles it.
        """
        option = f"{_OPTIONS[role]} COLUMN"
        if role in self.given:
            return Candidate(self.given[role], (9,), "as you said")
        found = self.of[role]
        if not found:
            listed = ", ".join(self.profiles)
            order = (
                "; a log without times needs a column that counts the events of each user (position)"
                if role == "timestamp"
                else ""
            )
            raise LongtailError(
                f"{self.log}: no column looks like {_MEANS[role]}: the file has {listed}; say which with "
                f"{option}{order}"
            )
        equal = [each.column for each in found if each.rank == found[0].rank]
        if len(equal) > 1:
            raise LongtailError(
                f"{self.log}: {' and '.join(equal)} may both be {_MEANS[role]}: say which with {option}"
            )
        return found[0]


def candidates(
    log: str,
    profiles: Mapping[str, Profile],
    given: Mapping[str, str],
    item_keys: Mapping[str, Key],
    user_keys: Mapping[str, Key],
) -> Candidates:
    """Look for candidates of every role.

    Args:
      log: its file, for errors.
      profiles: of the columns of the log.
      given: columns that the user named, by role.
      item_keys: by column of the log, the key of the item table that holds its values.
      user_keys: the same of the user table.

    Raises:
      LongtailError: a column that the user named is not there, or is no time where it should be.
    """
    found = Candidates(log, profiles, given)
    for role, column in given.items():
        if column not in profiles:
            close = difflib.get_close_matches(column, list(profiles), 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise LongtailError(
                f"{log}: {_OPTIONS[role]} expected a column of {', '.join(profiles)}, received '{column}'{hint}"
            )
    found.times = {name: t for name, p in profiles.items() if (t := reading_of(p)) is not None}
    found.of["timestamp"] = _times(found)
    taken = set(given.values())
    if (times := found.of["timestamp"]) and "timestamp" not in given:
        taken.add(times[0].column)
    found.of["reward"] = _rewards(profiles, taken)
    keys = {n: p for n, p in profiles.items() if n not in taken and _may_be_key(p)}
    found.of["user"] = _keys(keys, user_keys, names.USERS, names.USERS_OTHERWISE, "users")
    found.of["item"] = _keys(keys, item_keys, names.ITEMS, names.ITEMS_OTHERWISE, "items")
    _by_values(found, keys)
    found.of["event"] = _events(profiles, taken)
    return found


def settle(found: Candidates, ask: Mapping[str, str]) -> Roles:
    """Decide; ``ask`` holds what the user answered, by role.

    Raises:
      LongtailError: a role cannot be told, or one column has two of them.
    """
    columns: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for role in ("user", "item", "timestamp"):
        if ask.get(role):
            columns[role], reasons[role] = ask[role], "as you answered"
        else:
            chosen = found.choose(role)
            columns[role], reasons[role] = chosen.column, chosen.reason
    for role in ("reward", "event"):
        if role in found.given or ask.get(role):
            columns[role] = ask.get(role) or found.given[role]
            reasons[role] = "as you said"
        elif found.of.get(role) and role not in ask:
            columns[role], reasons[role] = found.of[role][0].column, found.of[role][0].reason
    twice = [c for c in columns.values() if list(columns.values()).count(c) > 1]
    if twice:
        raise LongtailError(
            f"{found.log}: expected a column of its own for each of {', '.join(columns)}, received '{twice[0]}' twice"
        )
    column = columns["timestamp"]
    if column not in found.times:
        raise LongtailError(
            f"{found.log}: the values of '{column}' are no times that could be read: expected ISO 8601, numbers since "
            "1970 or a known form of dates; name another column with --timestamp COLUMN"
        )
    return Roles(columns, reasons, found.times[column])


def _times(found: Candidates) -> list[Candidate]:
    ranked = []
    for name, reading in found.times.items():
        said = names.score(name, names.TIMES)
        by_type = int(reading.reason == "a column of times")
        if reading.is_order:
            rank = (0, 0, names.score(name, names.ORDERS))
        else:
            rank = (
                2 if said or by_type or reading.text_format or "ISO" in reading.reason else 1,
                said,
                by_type,
            )
        ranked.append(Candidate(name, rank, reading.reason))
    return sorted(ranked, key=lambda each: each.rank, reverse=True)


def _rewards(profiles: Mapping[str, Profile], taken: set[str]) -> list[Candidate]:
    ranked = []
    for name, profile in profiles.items():
        said = names.score(name, names.REWARDS)
        if said >= 1 and name not in taken and profile.is_number and profile.distinct <= 201:
            low, high = profile.numbers.min(), profile.numbers.max()
            if low == high:
                continue
            why = f"the name says a rating, and its {profile.distinct} values lie from {low:g} to {high:g}"
            ranked.append(Candidate(name, (said,), why))
    if not ranked and _is_unnamed(profiles):
        for name, profile in profiles.items():
            levels = profile.distinct if name not in taken and profile.is_number else 0
            if 3 <= levels <= 20 and profile.numbers.min() >= 0 and profile.numbers.max() <= 10:
                why = f"the only {levels} numbers of the column lie where ratings do; there are no names"
                ranked.append(Candidate(name, (profile.repeats > 20,), why))
    return sorted(ranked, key=lambda each: each.rank, reverse=True)


def _is_unnamed(profiles: Mapping[str, Profile]) -> bool:
    """Whether the file has no header line."""
    return all(name.startswith(NO_NAME) for name in profiles)


def _events(profiles: Mapping[str, Profile], taken: set[str]) -> list[Candidate]:
    ranked = []
    for name, profile in profiles.items():
        said = names.score(name, names.EVENTS)
        is_kind = 2 <= profile.distinct <= 20 and not profile.is_number and profile.repeats >= 3
        if said and name not in taken and is_kind:
            ranked.append(Candidate(name, (said,), f"{profile.distinct} kinds of events"))
    return sorted(ranked, key=lambda each: each.rank, reverse=True)


def _keys(
    profiles: Mapping[str, Profile],
    tables: Mapping[str, Key],
    known: list[str],
    otherwise: list[str],
    whose: str,
) -> list[Candidate]:
    ranked = []
    for name, profile in profiles.items():
        said, less = names.score(name, known), names.score(name, otherwise)
        in_table = name in tables
        if not (said or less or in_table):
            continue
        why = f"the name says it, {profile.distinct:,} in the sample"
        if in_table:
            why = f"{tables[name].share:.0%} of its values are keys in '{tables[name].column}' of the {whose}"
        ranked.append(Candidate(name, (int(in_table), said, less), why))
    return sorted(ranked, key=lambda each: each.rank, reverse=True)


def _by_values(found: Candidates, keys: Mapping[str, Profile]) -> None:
    """Where names say nothing: of two columns of keys, what is not the one is the other."""
    for role, other in (("user", "item"), ("item", "user")):
        if found.of[role]:
            continue
        known = {c.column for c in found.of[other][:1]} | set(found.given.values())
        rewards = {c.column for c in found.of["reward"]}
        left = [
            n
            for n in keys
            if n not in known | rewards and keys[n].repeats >= 1.5 and n not in found.times
        ]
        unnamed = _is_unnamed(found.profiles)
        if unnamed and not found.of[other] and len(left) == 2:
            why = "of the two columns with keys, as logs without a header have it"
            at = 0 if role == "user" else 1
            found.of[role] = [Candidate(left[at], (1,), f"the {('first', 'second')[at]} {why}")]
        elif len(left) == 1 and (found.of[other] or other in found.given):
            found.of[role] = [
                Candidate(left[0], (1,), "the only other column whose values are keys that return")
            ]
        else:
            found.of[role] = [Candidate(n, (1,), "its values are keys that return") for n in left]


def _may_be_key(profile: Profile) -> bool:
    if profile.has_lists or not profile.is_readable or profile.distinct < 2:
        return False
    return not profile.is_number or profile.is_whole
