"""Every baseline by the name that `evaluate.baselines` knows it by: one file and one line for a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from preprocessing.base.variants import load

if TYPE_CHECKING:
    from trainer.evaluation.baselines.ranker import Built, Material


@dataclass(frozen=True)
class Baseline:
    """What is known of a baseline before its code is imported.

    Attributes:
      place: the function that builds it, `(Material) -> Built`; the `name` of what it builds is the
        key in `BASELINES`.
      label: in tables and plots.
      says: one phrase for the documentation.
      names_new_items: else it ranks only what a user had before.
    """

    place: str
    label: str
    says: str
    names_new_items: bool = True


_HERE = "trainer.evaluation.baselines"
BASELINES = {
    "als": Baseline(
        f"{_HERE}.als:build_als", "ALS", "implicit ALS (Hu et al. 2008), tuned on validation"
    ),
    "als_recent": Baseline(
        f"{_HERE}.als:build_als_recent",
        "ALS, recent popularity",
        "the same, with the model's recent popularity added and weighed on validation",
    ),
    "neighbours": Baseline(
        f"{_HERE}.neighbours:build_neighbours",
        "item neighbours",
        "item-item neighbourhoods (Deshpande and Karypis 2004), tuned on validation",
    ),
    "popularity": Baseline(
        f"{_HERE}.popularity:build_popularity", "popularity", "events in training"
    ),
    "recent_popularity": Baseline(
        f"{_HERE}.popularity:build_recent_popularity",
        "recent popularity",
        "events that weigh less with their age (`preprocess.half_life_days`)",
    ),
    "own_frequent": Baseline(
        f"{_HERE}.own_frequent:build_own_frequent",
        "own frequent",
        "the user's own most frequent items; none is new",
        names_new_items=False,
    ),
}
"""In the order of every table and plot."""


def build(name: str, material: Material) -> Built:
    """The baseline of that name, tuned on validation."""
    function: Callable[[Material], Built] = load(BASELINES[name].place)
    built = function(material)
    if built.ranker.name != name:
        # Figures are kept by the ranker's name: another baseline's would be replaced.
        raise NotImplementedError(
            f"baseline '{name}' built a ranker named '{built.ranker.name}': give its class name = '{name}'"
        )
    return built


REPEAT_ONLY = frozenset(name for name, each in BASELINES.items() if not each.names_new_items)
"""Those that can name nothing new."""
