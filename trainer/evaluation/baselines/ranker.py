"""The small interface behind which model and baselines are judged alike, and what baselines are made of.

All of them see what the model sees: of items the training split only (but for the recent counts,
which go up to the start of the split that is ranked, as those of the model's popularity coordinate
do), and of each user the history up to that start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.progress import Stages
from trainer.evaluation.baselines.user_items import read_user_items
from trainer.evaluation.buckets import PopularityBuckets
from trainer.evaluation.protocol import QuerySplit
from trainer.functional.metrics import Ints
from trainer.functional.popularity import current

if TYPE_CHECKING:
    import scipy.sparse as sp

    from trainer.config.sections import EvaluateConfig, TrainerSections
    from trainer.data.catalogue import Catalogue


class Ranker(Protocol):
    """Anything that can be judged by `protocol.measure`."""

    name: str

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """`[U, k]` item rows for each user, best first, 0 where nothing is left to recommend."""
        ...


@runtime_checkable
class RanksByMode(Protocol):
    """A ranker that scores once for both modes."""

    def rank_by_mode(self, queries: QuerySplit, k: int) -> dict[str, Ints]:
        """`new` and `all`: as `Ranker.rank` with and without `exclude_seen`."""
        ...


class Built(NamedTuple):
    """A baseline, and one record for each setting that was tried for it on validation."""

    ranker: Ranker
    records: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Material:
    """What baselines are made of.

    Attributes:
      data_dir: finished preprocessing.
      buckets: of the catalogue, with its training events.
      examples: training examples `[N + 1]` of the items.
      recent: recent events `[N + 1]` of the items as of the start of each split.
      validation: the split that decides between settings.
      settings: the section `evaluate`.
      pseudo_events: of the model's popularity coordinate.
      seed: of whatever is drawn.
      stages: shows progress.
    """

    data_dir: Path
    buckets: PopularityBuckets
    examples: NDArray[Any]
    recent: Mapping[str, NDArray[np.float64]]
    validation: QuerySplit
    settings: EvaluateConfig
    pseudo_events: float
    seed: int
    stages: Stages

    @classmethod
    def of(
        cls,
        config: TrainerSections,
        data_dir: Path,
        catalogue: Catalogue,
        buckets: PopularityBuckets,
        validation: QuerySplit,
        stages: Stages,
    ) -> Material:
        """Of the counts of a catalogue."""
        return cls(
            data_dir=data_dir,
            buckets=buckets,
            examples=catalogue.counts_examples,
            recent=catalogue.counts_recent,
            validation=validation,
            settings=config.evaluate,
            pseudo_events=config.pseudo_events,
            seed=config.seed,
            stages=stages,
        )

    @cached_property
    def log_popularity(self) -> dict[str, NDArray[np.float32]]:
        """Log P `[N + 1]` as of the start of each split, as in the model's popularity coordinate."""
        return {
            split: current(self.examples, events, self.pseudo_events)
            for split, events in self.recent.items()
        }

    def once(self, name: str, make: Callable[[], Built]) -> Built:
        """What several baselines stand on is made for the first of them alone."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @cached_property
    def _made(self) -> dict[str, Built]:
        return {}

    @cached_property
    def user_items(self) -> sp.csr_matrix:
        """`[train users, N + 1]` training events; read once for all baselines."""
        return read_user_items(self.data_dir, self.buckets.num_items)
