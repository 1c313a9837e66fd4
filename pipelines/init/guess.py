"""A value of the configuration that was guessed, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Guess:
    """One key of the configuration.

    Attributes:
      key: dotted, such as ``data.columns.user``; an entry of the feature list is ``features.NAME``.
      value: what stands there, made of what YAML has.
      reason: why, one sentence without a period; it becomes the comment beside the key.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """A column that becomes no feature.

    Attributes:
      table: ``log``, ``items`` or ``users``.
      column: its name in the file.
      reason: why, one sentence without a period.
    """

    table: str
    column: str
    reason: str


@dataclass
class Guesses:
    """All that was guessed, in the order in which it is written."""

    made: list[Guess] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, key: str, value: Any, reason: str) -> None:
        """One more."""
        self.made.append(Guess(key, value, reason))

    def leave(self, table: str, column: str, reason: str) -> None:
        """A column is left out."""
        self.left_out.append(LeftOut(table, column, reason))

    def document(self) -> dict[str, Any]:
        """The configuration as nested mappings, as the YAML file holds it."""
        found: dict[str, Any] = {}
        for guess in self.made:
            section, _, _ = guess.key.partition(".")
            if section == "features":
                found.setdefault("features", []).append(guess.value)
                continue
            place, parts = found, guess.key.split(".")
            for part in parts[:-1]:
                place = place.setdefault(part, {})
            place[parts[-1]] = guess.value
        return found
