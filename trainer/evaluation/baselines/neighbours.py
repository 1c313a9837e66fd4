"""Item-item neighbourhoods (package `implicit`), tuned on validation.

Deshpande, Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 2004: what is bought by the
same users as the user's own items, each item with its most similar ones only.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from preprocessing.base.optional import require
from trainer.evaluation.baselines.popularity import PopularityRanker
from trainer.evaluation.baselines.ranker import Built, Material
from trainer.evaluation.baselines.tuning import Settings, tune
from trainer.evaluation.baselines.user_items import log_counts
from trainer.evaluation.protocol import QuerySplit
from trainer.functional.metrics import Ints

if TYPE_CHECKING:
    import scipy.sparse as sp

_CLASSES = {
    "tfidf": "TFIDFRecommender",
    "cosine": "CosineRecommender",
    "bm25": "BM25Recommender",
}


class Neighbours:
    """Sums the similarities to the user's own items; new users are served from their history too."""

    name = "neighbours"

    def __init__(self, user_items: sp.csr_matrix, settings: Settings) -> None:
        """Finds the neighbours from event counts `[train users, N + 1]`.

        Raises:
          LongtailError: the package `implicit` is not installed.
        """
        self.settings = settings
        self._popularity = PopularityRanker(
            np.asarray(user_items.sum(axis=0)).ravel().astype(np.int64)
        )
        kind = getattr(require("implicit.nearest_neighbours"), _CLASSES[settings["weighting"]])
        self._model = kind(K=settings["neighbours"])
        with warnings.catch_warnings():  # it converts its own weighted matrix, and says so
            warnings.simplefilter("ignore")
            self._model.fit(log_counts(user_items), show_progress=False)

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`; where the neighbours are fewer than k, popular items follow them."""
        ranked = np.zeros((queries.num_users, k), np.int64)
        if queries.num_users:
            found, scores = self._model.recommend(
                np.arange(queries.num_users),
                log_counts(queries.seen),
                N=k,
                filter_already_liked_items=exclude_seen,
            )
            ranked[:, : found.shape[1]] = np.where(scores > 0, found, 0)
        short = np.flatnonzero((ranked == 0).any(axis=1))
        if short.size:
            # Of 2 k popular items at least k are not among the k neighbours.
            popular = self._popularity.rank(queries, 2 * k, exclude_seen)
            for user in short:
                own = ranked[user][ranked[user] > 0]
                more = popular[user][~np.isin(popular[user], own)][: k - len(own)]
                ranked[user] = 0
                ranked[user, : len(own) + len(more)] = [*own, *more]
        return ranked


def build_neighbours(material: Material) -> Built:
    """See `registry`."""

    def fit(point: Settings) -> Neighbours:
        return Neighbours(material.user_items, point)

    return Built(*tune("item neighbours", material.settings.neighbours.grid, fit, material))
