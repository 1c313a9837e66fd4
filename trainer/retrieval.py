"""Exact full-corpus retrieval: embed every item, score every query, keep the best k.

Used by the validation during training, by the full evaluation and as the reference for approximate
indexes. Rows name items; row 0 is padding and never retrieved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.functional.metrics import (
    Targets,
    hits,
    mean_over_users,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)
from trainer.keras_gate import tf

if TYPE_CHECKING:
    from trainer.item_table import ItemTable
    from trainer.model import RecallModel

_BLOCK = 64
"""Items whose best score stands for all of them in the first selection."""
_SCORES_HELD = 1 << 26
"""Scores in memory at once, 256 MB: a larger catalogue is scored in slices, then merged."""


class Ragged(NamedTuple):
    """Lists of integers, one a user: list i is `values[row_splits[i]:row_splits[i + 1]]`."""

    values: NDArray[Any]
    row_splits: NDArray[Any]

    def __len__(self) -> int:
        """Number of lists, not of fields."""
        return len(self.row_splits) - 1

    def take(self, rows: NDArray[Any]) -> Ragged:
        """The lists of the given rows, in their order."""
        sizes = np.diff(self.row_splits)[rows]
        splits = np.concatenate([[0], np.cumsum(sizes)])
        flat = np.arange(splits[-1]) + np.repeat(self.row_splits[rows] - splits[:-1], sizes)
        return Ragged(self.values[flat], splits)


def item_embeddings(
    model: RecallModel, item_table: ItemTable, batch: int = 8192, as_of: str = "now"
) -> NDArray[np.float32]:
    """Embeds the whole catalogue.

    Args:
      model: with the item tower.
      item_table: N items.
      batch: items embedded at once.
      as_of: the instant whose popularity counts, where the model has a popularity coordinate:
        `validation` or `test` (the start of that split) or `now` (the end of the log).

    Returns:
      `[N + 1, D]`; row 0 is zero.
    """
    parts = [np.zeros((1, model.dim), np.float32)]
    for start in range(1, item_table.num_items + 1, batch):
        rows = np.arange(start, min(start + batch, item_table.num_items + 1), dtype=np.int32)
        parts.append(model.embed_items(model.served_items(rows, as_of)).numpy())
    return np.concatenate(parts)


def query_embeddings(
    model: RecallModel, query_features: Mapping[str, NDArray[Any]], batch: int
) -> NDArray[np.float32]:
    """Embeds queries.

    Args:
      model: with the query tower.
      query_features: name -> `[U]` or `[U, n]`, as `input_fn.evaluation_queries` gives them.
      batch: queries embedded at once.

    Returns:
      `[U, D]`.
    """
    parts = [np.zeros((0, model.dim), np.float32)]
    for start in range(0, len(next(iter(query_features.values()))), batch):
        part = {
            name: tf.constant(values[start : start + batch])
            for name, values in query_features.items()
        }
        parts.append(model.embed_queries(part).numpy())
    return np.concatenate(parts)


def top_items(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    exclude: tuple[NDArray[Any], NDArray[Any]] | None,
    batch_users: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Finds the k items of the highest inner product with each query; of equals the lower row.

    Args:
      queries: `[U, D]`.
      items: `[N + 1, D]`; row 0 is padding.
      k: items wanted.
      exclude: (values, row_splits) of the rows that each user must not get, or None.
      batch_users: users scored at once.

    Returns:
      Rows `[U, k]` and scores `[U, k]`. Where fewer than k items are left: row 0 and score -inf.

    Raises:
      ValueError: k is below 1, or shapes do not fit each other.
    """
    _check(queries, items, k, exclude)
    # Whole blocks; the rows added are barred like padding.
    table = tf.pad(tf.constant(items, tf.float32), [[0, -len(items) % _BLOCK], [0, 0]])
    found_rows = np.zeros((len(queries), k), np.int32)
    found_scores = np.full((len(queries), k), -np.inf, np.float32)
    width = max(_SCORES_HELD // max(batch_users * _BLOCK, 1), 1) * _BLOCK
    for start in range(0, len(queries), batch_users):
        stop = min(start + batch_users, len(queries))
        query = tf.constant(queries[start:stop], tf.float32)
        users, rows = _pairs(exclude, start, stop, len(items), len(table))
        best: list[Any] = []
        for low in range(0, len(table), width):
            inside = (rows >= low) & (rows < low + width)
            barred = np.stack([users[inside], rows[inside] - low], axis=1)
            part = table[low : low + width]
            scores, at = _best(query, part, tf.constant(barred, tf.int32), tf.constant(k))
            best.append((scores.numpy(), at.numpy() + low))
        scores, at = (np.concatenate(part, axis=1) for part in zip(*best, strict=True))
        if len(best) > 1:
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, at = np.take_along_axis(scores, order, 1), np.take_along_axis(at, order, 1)
        found_scores[start:stop, : scores.shape[1]] = scores
        found_rows[start:stop, : scores.shape[1]] = np.where(np.isneginf(scores), 0, at)
    return found_rows, found_scores


def recall_on(
    ranked: NDArray[Any], targets: Targets, known: NDArray[np.bool_], ks: Sequence[int]
) -> dict[str, float]:
    """Judges a ranking for early stopping, by the definitions of the full evaluation.

    Args:
      ranked: `[U, max(ks)]` rows, 0 = padding.
      targets: of the same users.
      known: `[N + 1]` items that count as targets: those with a training event, or those of a
        bucket.
      ks: lengths of the list.

    Returns:
      `recall@k`, `ndcg@k` and `mrr@k` for each k; NaN where no user has a target.
    """
    inside = targets.restrict(known)
    found, counts = hits(ranked, inside), inside.counts
    metrics = {"recall": recall_at_k, "ndcg": ndcg_at_k, "mrr": mrr_at_k}
    return {
        f"{name}@{k}": mean_over_users(metric(found, counts, k))
        for name, metric in metrics.items()
        for k in ks
    }


@tf.function(reduce_retracing=True, autograph=False)
def _best(
    query: tf.Tensor, items: tf.Tensor, barred: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and positions `[U, <= k]` of the best of `items [n, D]`; `barred [x, 2]` get -inf.

    n is a multiple of the block. The k best lie within the k blocks of the highest maxima: every
    other block has k items before its first. So most scores are only ever compared with their
    block's maximum, which is several times as fast as `tf.math.top_k` over all of them.
    """
    scores = tf.matmul(query, items, transpose_b=True)
    scores = tf.tensor_scatter_nd_update(scores, barred, tf.fill(tf.shape(barred)[:1], -np.inf))
    users = tf.shape(scores)[0]
    blocks = tf.reshape(scores, [users, -1, _BLOCK])
    _, chosen = tf.math.top_k(tf.reduce_max(blocks, axis=2), tf.minimum(k, tf.shape(blocks)[1]))
    chosen = tf.sort(chosen, axis=1)  # in the order of rows again: of equals the lower row wins
    candidates = tf.reshape(tf.gather(blocks, chosen, batch_dims=1), [users, -1])
    values, at = tf.math.top_k(candidates, tf.minimum(k, tf.shape(candidates)[1]))
    return values, tf.gather(chosen, at // _BLOCK, batch_dims=1) * _BLOCK + at % _BLOCK


def _pairs(
    exclude: tuple[NDArray[Any], NDArray[Any]] | None,
    start: int,
    stop: int,
    num_rows: int,
    num_padded: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(user within the batch, row) of what is barred: padding for all, and the excluded."""
    users = np.arange(stop - start)
    padding = np.array([0, *range(num_rows, num_padded)])
    everybody, rows = np.repeat(users, len(padding)), np.tile(padding, len(users))
    if exclude is None:
        return everybody, rows
    values, splits = exclude
    own = np.repeat(users, np.diff(splits[start : stop + 1]))
    listed = np.asarray(values[splits[start] : splits[stop]], np.int64)
    return np.concatenate([everybody, own]), np.concatenate([rows, listed])


def _check(queries: Any, items: Any, k: int, exclude: Any) -> None:
    if k < 1:
        raise ValueError(f"k: expected 1 or more, received {k}")
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"expected queries [U, D] and items [N + 1, D], received {queries.shape} and "
            f"{items.shape}"
        )
    if exclude is not None and len(exclude[1]) != len(queries) + 1:
        raise ValueError(
            f"exclude: expected row_splits [{len(queries) + 1}] for {len(queries)} queries, "
            f"received {len(exclude[1])}"
        )
