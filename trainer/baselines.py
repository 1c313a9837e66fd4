"""The rankers that a model has to beat, behind one small interface.

* `Popularity`: training events, the same list for everybody.
* `RecentPopularity`: the same with recent events counting more, as of the start of the split.
* `OwnFrequent`: what the user had most often. It repeats by design, so it has nothing to say about
  new items.
* `ALS` (package `implicit`): the strong one. Hu, Koren, Volinsky, "Collaborative Filtering for
  Implicit Feedback Datasets", ICDM 2008, on log(1 + events).

All of them see what the model sees: of items the training split only (but for the recent counts,
which go up to the start of the split that is ranked, as those of the model's popularity coordinate
do), and of each user the history up to that start.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import LongtailError
from trainer.buckets import PopularityBuckets
from trainer.config import ALSConfig
from trainer.functional.metrics import Ints, hits, mean_over_users, recall_at_k
from trainer.optional import require
from trainer.protocol import QuerySplit, csr_of, plain, standard_error
from trainer.retrieval import top_items

if TYPE_CHECKING:
    import scipy.sparse as sp


class Ranker(Protocol):
    """Anything that can be judged by `protocol.measure`."""

    name: str

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """`[U, k]` item rows for each user, best first, 0 where nothing is left to recommend."""
        ...


class Popularity:
    """Items by falling training events (ties: by row); never an item without events."""

    name = "popularity"

    def __init__(self, events: NDArray[Any]) -> None:
        """Takes `events [N + 1]`."""
        order = np.argsort(-events, kind="stable")
        self._order = order[events[order] > 0]
        self._place = np.full(len(events), len(self._order), np.int64)
        self._place[self._order] = np.arange(len(self._order))

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`."""
        ranked = np.zeros((queries.num_users, k), np.int64)
        if not exclude_seen:
            ranked[:, : len(self._order)] = self._order[:k]
            return ranked
        for user in range(queries.num_users):
            seen = queries.seen.indices[queries.seen.indptr[user] : queries.seen.indptr[user + 1]]
            # The first k + |seen| items surely hold k unseen ones: no need for the whole list.
            free = np.ones(min(k + len(seen), len(self._order)), np.bool_)
            places = self._place[seen]
            free[places[places < len(free)]] = False
            best = self._order[np.flatnonzero(free)[:k]]
            ranked[user, : len(best)] = best
        return ranked


class RecentPopularity:
    """Items by falling recent events, where an event weighs 2^(-age / half-life)."""

    name = "recent_popularity"

    def __init__(self, recent: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes `ItemTable.counts_recent`: `[N + 1]` as of the start of each split."""
        self._as_of = {split: Popularity(events) for split, events in recent.items()}

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`."""
        return self._as_of[queries.name].rank(queries, k, exclude_seen)


class OwnFrequent:
    """The user's own items by falling number of events (ties: by row)."""

    name = "own_frequent"

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `Ranker`; with `exclude_seen` nothing is left, and every place is 0."""
        ranked = np.zeros((queries.num_users, k), np.int64)
        if exclude_seen:
            return ranked
        seen = queries.seen
        users = np.repeat(np.arange(queries.num_users), np.diff(seen.indptr))
        order = np.lexsort((seen.indices, -seen.data, users))
        place = np.arange(len(users)) - seen.indptr[users]  # lexsort keeps users in their order
        keep = place < k
        ranked[users[keep], place[keep]] = seen.indices[order][keep]
        return ranked


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


def read_user_items(data_dir: Path, num_items: int) -> sp.csr_matrix:
    """`[train users, num_items + 1]` training events from `user_items.parquet`.

    Raises:
      LongtailError: the file is missing.
    """
    import pyarrow.parquet as pq

    path = data_dir / "user_items.parquet"
    try:
        table = pq.read_table(path, columns=["user", "item", "events"])
    except FileNotFoundError as error:
        raise LongtailError(f"{path} is missing: run preprocessing first") from error
    users, items, events = (table.column(name).to_numpy() for name in ("user", "item", "events"))
    return csr_of(users, items, events, (int(users.max(initial=-1)) + 1, num_items + 1))


def sample_users(split: QuerySplit, max_users: int, seed: int) -> QuerySplit:
    """At most `max_users` of the users, drawn without replacement; without their features."""
    if split.num_users <= max_users:
        return split
    users = np.sort(np.random.default_rng(seed).choice(split.num_users, max_users, replace=False))
    new_row = np.full(split.num_users, -1, np.int64)
    new_row[users] = np.arange(max_users)
    rows = new_row[split.targets.users]
    targets = type(split.targets)(rows[rows >= 0], split.targets.items[rows >= 0], max_users)
    return QuerySplit(split.name, {}, targets, split.seen[users])


def log_counts(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + count) of the stored values: the hundredth repeat says less than the second."""
    weights = counts.astype(np.float32, copy=True)
    np.log1p(weights.data, out=weights.data)
    return weights


def _one_blas_thread() -> Any:
    """Implicit runs its own threads and warns (rightly: ten times slower) when BLAS does so too."""
    return require("threadpoolctl").threadpool_limits(1, "blas")


def _als_class() -> Any:
    return require("implicit.cpu.als").AlternatingLeastSquares
