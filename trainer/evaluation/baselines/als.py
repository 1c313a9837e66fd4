"""Implicit ALS (package `implicit`), by itself and with the popularity of late beside it.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, on
log(1 + events).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.optional import require
from trainer.evaluation.baselines.popularity import PopularityRanker
from trainer.evaluation.baselines.ranker import Built, Material
from trainer.evaluation.baselines.tuning import Settings, tune
from trainer.evaluation.baselines.user_items import log_counts
from trainer.evaluation.protocol import QuerySplit
from trainer.evaluation.retrieval import top_items
from trainer.functional.metrics import Ints

if TYPE_CHECKING:
    import scipy.sparse as sp


class ALS:
    """Implicit matrix factorisation; users are folded in from their history, new ones too."""

    name = "als"

    def __init__(
        self,
        user_items: sp.csr_matrix,
        settings: Settings,
        iterations: int,
        seed: int,
        batch_users: int,
    ) -> None:
        """Fits on event counts `[train users, N + 1]`; the same seed gives the same factors.

        Raises:
          LongtailError: the package `implicit` is not installed.
        """
        self.settings, self.batch_users = settings, batch_users
        self._popularity = PopularityRanker(
            np.asarray(user_items.sum(axis=0)).ravel().astype(np.int64)
        )
        with _one_blas_thread():
            self._model = _als_class()(**settings, iterations=iterations, random_state=seed)
            self._model.fit(log_counts(user_items), show_progress=False)

    @property
    def items(self) -> NDArray[np.float32]:
        """`[N + 1, factors]`."""
        return np.asarray(self._model.item_factors, np.float32)

    def users(self, queries: QuerySplit) -> NDArray[np.float32]:
        """`[U, factors]` of the users, solved from their history."""
        with _one_blas_thread():
            found = self._model.recalculate_user(
                np.arange(queries.num_users), log_counts(queries.seen)
            )
        return np.asarray(found, np.float32)

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`; a user without history gets the popular items instead of a tie of zeros."""
        exclude = queries.exclude if exclude_seen else None
        rows, _ = top_items(self.users(queries), self.items, k, exclude, self.batch_users)
        ranked = np.array(rows, np.int64)
        unknown = np.diff(queries.seen.indptr) == 0
        if unknown.any():
            ranked[unknown] = self._popularity.rank(queries, k, exclude_seen)[unknown]
        return ranked


class ALSRecent:
    """ALS with the model's own popularity of late: score + weight * log P as of the split's start.

    One more coordinate, log P of the item and the weight for every user. Without it a model that
    knows what is popular now would be compared with one that only knows what was.
    """

    name = "als_recent"

    def __init__(self, als: ALS, log_popularity: dict[str, NDArray[Any]], weight: float) -> None:
        """Takes log P `[N + 1]` by split."""
        self._als, self._log_popularity, self._weight = als, log_popularity, weight
        self.settings = {**als.settings, "popularity_weight": weight}

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`; a user without history gets what is popular now."""
        log_p = self._log_popularity[queries.name].astype(np.float32)
        items = np.concatenate([self._als.items, log_p[:, None]], axis=1)
        users = self._als.users(queries)
        weights = np.full((len(users), 1), self._weight, np.float32)
        exclude = queries.exclude if exclude_seen else None
        users = np.concatenate([users, weights], axis=1)
        rows, _ = top_items(users, items, k, exclude, self._als.batch_users)
        return np.array(rows, np.int64)


def build_als(material: Material) -> Built:
    """See `registry`; tuned once, for `als_recent` too."""
    als, settings = material.settings.als, material.settings

    def fit(point: Settings) -> ALS:
        return ALS(material.user_items, point, als.iterations, material.seed, settings.batch_users)

    return material.once("als", lambda: Built(*tune("ALS", als.grid, fit, material)))


def build_als_recent(material: Material) -> Built:
    """See `registry`."""
    plain = build_als(material).ranker
    assert isinstance(plain, ALS)
    als, log_p = plain, material.log_popularity

    def fit(point: Settings) -> ALSRecent:
        return ALSRecent(als, log_p, point["popularity_weight"])

    grid = {"popularity_weight": material.settings.als.popularity_weight}
    best, records = tune("ALS with recent popularity", grid, fit, material)
    return Built(best, [{**als.settings, **record} for record in records])


def _one_blas_thread() -> Any:
    """Implicit runs its own threads and warns (rightly: ten times slower) when BLAS does so too."""
    return require("threadpoolctl").threadpool_limits(1, "blas")


def _als_class() -> Any:
    return require("implicit.cpu.als").AlternatingLeastSquares
