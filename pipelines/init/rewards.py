"""Ratings and kinds of events: which of them are positives, and what each is worth."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from pipelines.init.guess import Guesses

LIKED = 0.65
"""Share of a scale from which on a rating counts as liked: 4 of 1 to 5, 7 of 1 to 10."""
_WORTH = (
    (r"purchas|buy|bought|order|transact|checkout|convert|install|book|watch|complete|listen", 1.0),
    (r"cart|basket|bag|wish|fav|save|like|share|follow|bookmark", 0.5),
    (r"click|open|detail", 0.2),
    (r"view|impression|show|browse|visit|see|pv", 0.1),
)
_UNKNOWN = 0.1


def min_reward(values: NDArray[np.float64]) -> tuple[float, str]:
    """The lowest rating that is a positive, and why.

    Args:
      values: of the sample, at least two different ones.
    """
    levels = np.unique(values)
    low, high = float(levels[0]), float(levels[-1])
    if len(levels) == 2:
        return high, f"of two values, {low:g} and {high:g}, the higher one says that it was liked"
    wanted = low + LIKED * (high - low)
    chosen = float(levels[levels >= wanted][0])
    kept = float((values >= chosen).mean())
    if kept < 0.2:
        chosen = float(np.quantile(values, 0.6))
        kept = float((values >= chosen).mean())
    return (
        chosen,
        f"the upper third of a scale from {low:g} to {high:g}: {kept:.0%} of the events; lower ones are no positives",
    )


def event_worth(kind: str) -> float:
    """What a kind of event is worth as a reward, by the words of its name."""
    return next((worth for pattern, worth in _WORTH if re.search(pattern, kind.lower())), _UNKNOWN)


def add_events(guesses: Guesses, kinds: list[str]) -> None:
    """The rewards of all kinds of events, the strongest last."""
    worth = sorted((event_worth(kind), kind) for kind in kinds)
    guesses.add(
        "data.events",
        {kind: value for value, kind in worth},
        "what an event of each kind is worth beside a purchase (1); unknown words get the least",
    )
