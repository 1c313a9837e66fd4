"""Split, towers, loss and training by what the log looks like; each rule says on what it stands."""

from __future__ import annotations

from pipelines.init.facts import Facts, HeldOut
from pipelines.init.guess import Guesses
from pipelines.init.roles import Roles

ENOUGH_USERS, SOME_USERS = 500, 50
SHARES = (0.05, 0.1, 0.15)
_LONGEST, _SHORTEST = 40, 10


def history_length(facts: Facts) -> int:
    """Twice the median history, in tens, between 10 and 40 (docs/quality.md: longer ones cost more than they bring)."""
    return max(_SHORTEST, min(_LONGEST, round(2 * facts.median / 10) * 10))


def add_split(guesses: Guesses, facts: Facts, roles: Roles) -> None:
    """By time, where the events are spread over time and enough users are held out."""
    if roles.time.is_order:
        guesses.add(
            "preprocess.split",
            {"method": "leave_one_out"},
            f"'{roles.columns['timestamp']}' tells the order within a user only, so each user's last event tests",
        )
        return
    share, held = _validation(facts)
    if held.users < SOME_USERS:
        guesses.add(
            "preprocess.split",
            {"method": "leave_one_out"},
            f"by time only {held.users} users would validate; each user's last event tests instead",
        )
        return
    guesses.add(
        "preprocess.split",
        {"method": "global_time", "validation": share, "test": 0.1},
        f"by time, as production sees it: {held.users:,} users validate, {facts.held_out[(0.1, 0.0)].users:,} test",
    )


def is_by_time(guesses: Guesses) -> bool:
    """Whether the split that was guessed is one by time."""
    split = next(each.value for each in guesses.made if each.key == "preprocess.split")
    return bool(split["method"] == "global_time")


def add_examples(guesses: Guesses, facts: Facts) -> None:
    """First purchases only, where repeats are common."""
    if facts.repeats >= 0.1:
        guesses.add(
            "preprocess.examples",
            "first",
            f"{facts.repeats:.0%} of the events are of an item that the user had before; the model learns what is new",
        )
    half_life = max(1, min(30, round(facts.days / 24)))
    if is_by_time(guesses) and half_life < 30:
        guesses.add(
            "preprocess.half_life_days",
            half_life,
            f"of recent popularity: a 24th of the {facts.days:,.0f} days of the log",
        )
    if facts.unreadable > 0.01:
        limit = min(1.0, round(facts.unreadable * 1.2 + 0.01, 2))
        guesses.add(
            "preprocess.max_rejected_fraction",
            limit,
            f"{facts.unreadable:.1%} of the rows lack a user, an item, a time or a reward and are rejected",
        )


def _validation(facts: Facts) -> tuple[float, HeldOut]:
    found = [(share, facts.held_out[(round(0.1 + share, 2), 0.1)]) for share in SHARES]
    return next(((share, held) for share, held in found if held.users >= ENOUGH_USERS), found[1])
