"""Widths, loss and training by what the log looks like; each rule says on what it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipelines.init.facts import Facts
from pipelines.init.features import Shape
from pipelines.init.guess import Guesses
from pipelines.init.profile import Profile
from pipelines.init.returning import returning

LARGE, NEW = 20_000, 0.2
"""Items of a large catalogue, and share of new users from which on popularity counts once more."""
_FEWEST, _GAIN = 8, 0.005
"""Values of a feature, and nats that it gains, that make it worth a view of the history."""
_MANY = 500_000


def user_width(facts: Facts) -> int:
    """The width of a user's embedding."""
    return 32 if facts.users >= 500 else 16


def history_views(
    shapes: list[tuple[str, str, Shape]], table: Mapping[str, Profile], key: str, facts: Facts
) -> list[tuple[str, str]]:
    """Up to two item features through which the history is seen as well: those that return most from event to event.

    Args:
      shapes: name, column and shape of the item features.
      table: columns of the item table.
      key: its key.
      facts: of the log.
    """
    found = []
    for name, column, shape in shapes:
        if shape.keys["kind"] not in ("categorical", "multi") or shape.values < _FEWEST:
            continue
        gain, shared, chance = returning(facts, table[key], table[column])
        if gain >= _GAIN:
            why = f"{shared:.0%} of a user's neighbouring events share a value, {chance:.0%} of random ones"
            found.append((gain, name, why))
    return [(name, why) for _, name, why in sorted(found, reverse=True)[:2]]


def add_model(guesses: Guesses, facts: Facts, *, by_time: bool) -> None:
    """Towers, loss and training."""
    guesses.add("towers.dim", 64, "the width that both towers were measured with")
    _popularity(guesses, facts, by_time=by_time)
    is_large = facts.items >= LARGE
    guesses.add(
        "loss.temperature",
        0.15 if is_large else 0.1,
        f"{facts.items:,} items: what suits {'a large catalogue' if is_large else 'a small catalogue'}",
    )
    batch = 1024 if facts.events >= 500_000 else 512 if facts.events >= 100_000 else 256
    guesses.add("train.batch_size", batch, f"{facts.events:,} events{facts.counted}")
    guesses.add("train.learning_rate", 0.05, "of Adagrad")
    epochs = max(2, min(20, math.ceil(3_000_000 / facts.events)))
    guesses.add(
        "train.max_epochs", epochs, "at most; training stops where validation no longer rises"
    )
    if facts.events >= _MANY:
        each = min(10, round(facts.events / _MANY) + 1)
        guesses.add(
            "train.evaluations_per_epoch", each, "recall may be best before the first epoch ends"
        )


def _popularity(guesses: Guesses, facts: Facts, *, by_time: bool) -> None:
    why = "popularity as a coordinate of its own, so that angles tell preference alone"
    if not by_time:
        guesses.add("towers.popularity", {}, why)
        return
    guesses.add(
        "towers.popularity",
        {"strength": 1.15},
        f"{why}; what is popular now is worth a little more",
    )
    held = facts.held_out[(0.15, 0.1)]
    new = 1 - held.known / max(1, held.users)
    if new >= NEW:
        guesses.add(
            "prior.beta",
            1.0,
            f"{new:.0%} of the users who validate are new: of them popularity is all that is known",
        )
