"""Implicit ALS (package `implicit`), tuned on validation.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, on
log(1 + events).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from preprocessing.features import Section
from trainer.baselines.popularity import Popularity
from trainer.baselines.ranker import Built, Material
from trainer.baselines.user_items import log_counts, sample_users
from trainer.buckets import PopularityBuckets
from trainer.functional.metrics import Ints, hits, mean_over_users, recall_at_k
from trainer.optional import require
from trainer.protocol import QuerySplit, plain, standard_error
from trainer.retrieval import top_items

if TYPE_CHECKING:
    import scipy.sparse as sp


class ALSConfig(Section):
    """Implicit ALS (package ``implicit``), tuned over this grid on validation."""

    factors: list[PositiveInt] = Field(default=[64])
    regularization: list[PositiveFloat] = Field(default=[0.1])
    alpha: list[PositiveFloat] = Field(default=[1.0])
    iterations: PositiveInt = 10


@dataclass(frozen=True)
class ALSSettings:
    """One point of the grid."""

    factors: int
    regularization: float
    alpha: float


class ALS:
    """Implicit matrix factorisation; users are folded in from their history, new ones too."""

    name = "als"

    def __init__(
        self,
        user_items: sp.csr_matrix,
        settings: ALSSettings,
        iterations: int,
        seed: int,
        batch_users: int,
    ) -> None:
        """Fits on event counts `[train users, N + 1]`; the same seed gives the same factors.

        Raises:
          LongtailError: the package `implicit` is not installed.
        """
        self.settings = settings
        self._batch_users = batch_users
        self._popularity = Popularity(np.asarray(user_items.sum(axis=0)).ravel().astype(np.int64))
        with _one_blas_thread():
            self._model = _als_class()(
                factors=settings.factors,
                regularization=settings.regularization,
                alpha=settings.alpha,
                iterations=iterations,
                random_state=seed,
            )
            self._model.fit(log_counts(user_items), show_progress=False)

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`; a user without history gets the popular items instead of a tie of zeros."""
        with _one_blas_thread():
            users = self._model.recalculate_user(
                np.arange(queries.num_users), log_counts(queries.seen)
            )
        rows, _ = top_items(
            users,
            self._model.item_factors,
            k,
            queries.exclude if exclude_seen else None,
            self._batch_users,
        )
        ranked = np.array(rows, np.int64)
        unknown = np.diff(queries.seen.indptr) == 0
        if unknown.any():
            ranked[unknown] = self._popularity.rank(queries, k, exclude_seen)[unknown]
        return ranked


def tune_als(
    user_items: sp.csr_matrix,
    validation: QuerySplit,
    buckets: PopularityBuckets,
    config: ALSConfig,
    *,
    k: int,
    seed: int,
    max_users: int,
    batch_users: int,
    on_point: Callable[[dict[str, Any]], None] = lambda record: None,
) -> tuple[ALS, list[dict[str, Any]]]:
    """Fits every point of the grid on train; keeps the best by validation recall on new items.

    Args:
      user_items: `[train users, N + 1]` event counts.
      validation: the split that decides; above `max_users` a random sample of it (by `seed`).
      buckets: for the targets that training knows.
      config: the grid.
      k: length of the list.
      seed: of the factors and of the sample.
      max_users: validation users at most.
      batch_users: users scored at once.
      on_point: called with the record of each point as it is done.

    Returns:
      The best ranker, and one record a point: settings, `recall`, `se`, `seconds`, `chosen`. Of
      equals, or without a validation user, the first point is taken.
    """
    sample = sample_users(validation, max_users, seed)
    targets = sample.targets_of("new").restrict(buckets.known)
    best: tuple[float, int, ALS] | None = None
    records: list[dict[str, Any]] = []
    for point in itertools.product(config.factors, config.regularization, config.alpha):
        started, settings = time.perf_counter(), ALSSettings(*point)
        ranker = ALS(user_items, settings, config.iterations, seed, batch_users)
        per_user = recall_at_k(hits(ranker.rank(sample, k, True), targets), targets.counts, k)
        recall = plain(mean_over_users(per_user))
        seconds = round(time.perf_counter() - started, 2)
        record = {
            "recall": recall,
            "se": plain(standard_error(per_user)),
            "seconds": seconds,
            "chosen": False,
        }
        records.append({**asdict(settings), **record})
        if best is None or (recall or 0.0) > best[0]:
            best = (recall or 0.0, len(records) - 1, ranker)
        on_point(records[-1])
    assert best is not None  # the configuration has one point at least
    records[best[1]]["chosen"] = True
    return best[2], records


def build_als(material: Material) -> Built:
    """See `registry`; shows how far the search is."""
    settings, als = material.settings, material.settings.als
    total = len(als.factors) * len(als.regularization) * len(als.alpha)
    done: list[dict[str, Any]] = []
    with material.stages.stage(f"tuning ALS, {total} settings", lambda: len(done), total):
        best, records = tune_als(
            material.user_items,
            material.validation,
            material.buckets,
            als,
            k=settings.ks[-1],
            seed=material.seed,
            max_users=settings.max_validation_users,
            batch_users=settings.batch_users,
            on_point=done.append,
        )
    return Built(best, records)


def _one_blas_thread() -> Any:
    """Implicit runs its own threads and warns (rightly: ten times slower) when BLAS does so too."""
    return require("threadpoolctl").threadpool_limits(1, "blas")


def _als_class() -> Any:
    return require("implicit.cpu.als").AlternatingLeastSquares
