"""Every baseline by the name that `evaluate.baselines` knows it by: one file and one line for a new one."""

from __future__ import annotations

from collections.abc import Callable

from trainer.evaluation.baselines.als import build_als, build_als_recent
from trainer.evaluation.baselines.neighbours import build_neighbours
from trainer.evaluation.baselines.own_frequent import build_own_frequent
from trainer.evaluation.baselines.popularity import build_popularity, build_recent_popularity
from trainer.evaluation.baselines.ranker import Built, Material

BASELINES: dict[str, Callable[[Material], Built]] = {
    "popularity": build_popularity,
    "recent_popularity": build_recent_popularity,
    "own_frequent": build_own_frequent,
    "als": build_als,
    "als_recent": build_als_recent,
    "neighbours": build_neighbours,
}
"""In the order of every table and plot."""

REPEAT_ONLY = frozenset({"own_frequent"})
"""Those that can name nothing new."""
