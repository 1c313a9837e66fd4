"""Exact full-corpus retrieval: embed every item, score every query, keep the best k.

Used by the validation during training, by the full evaluation and as the reference for approximate
indexes. Rows name items; row 0 is padding and never retrieved.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.base.keras2 import tf
from trainer.functional.metrics import (
    Targets,
    hits,
    mean_over_users,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)

if TYPE_CHECKING:
    from trainer.data.item_table import ItemTable
    from trainer.towers.recall_model import RecallModel

_BLOCK = 32
"""Items whose best score stands for all of them in the first selection."""
_SCORES_HELD = 1 << 26
"""Scores in memory at once, 256 MB: a larger catalogue is scored in slices, then merged."""


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
      query_features: name -> `[U]` or `[U, n]`, as `evaluation_queries` gives them.
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
    return _top(queries, items, k, [[exclude]], batch_users)[0]


def top_items_by_mode(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    seen: tuple[NDArray[Any], NDArray[Any]],
    batch_users: int,
) -> dict[str, NDArray[np.int32]]:
    """Rows `[U, k]` of the modes `all` (nothing excluded) and `new` (without what was seen), scored once.

    Args and errors: as `top_items`.
    """
    (every, _), (new, _) = _top(queries, items, k, [[], [seen]], batch_users)
    return {"all": every, "new": new}


def _top(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    rounds: Sequence[Sequence[tuple[NDArray[Any], NDArray[Any]] | None]],
    batch_users: int,
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Rows and scores of each round; what a round excludes stays excluded in those after it."""
    for exclude in itertools.chain.from_iterable(rounds):
        _check(queries, items, k, exclude)
    num_padded = len(items) + -len(items) % _BLOCK  # whole blocks; the added rows are barred
    width = max(_SCORES_HELD // max(batch_users * _BLOCK, 1), 1) * _BLOCK
    # The product with a transposed table is a third faster where it was transposed before.
    table = {low: _transposed(items, low, width) for low in range(0, num_padded, width)}
    shape = (len(queries), k)
    found = [(np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)) for _ in rounds]
    for start in range(0, len(queries), batch_users):
        users = slice(start, min(start + batch_users, len(queries)))
        query = tf.constant(queries[users], tf.float32)
        barred = [_pairs(exclude, users) for exclude in rounds]
        barred[0] = np.concatenate([_padding(users, len(items), num_padded), barred[0]])
        parts: list[list[Any]] = [[] for _ in rounds]
        for low, part in table.items():
            inside = [_slice(pairs, low, width) for pairs in barred]
            for each, (scores, at) in zip(
                parts, _best(query, part, inside, tf.constant(k)), strict=True
            ):
                each.append((scores.numpy(), at.numpy() + low))
        for each, (rows, values) in zip(parts, found, strict=True):
            _merge(each, rows[users], values[users])
    return found


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
    query: tf.Tensor, items: tf.Tensor, barred: list[tf.Tensor], k: tf.Tensor
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Scores and positions `[U, <= k]` of the best of `items [D, n]`, for each of `barred`.

    Each of `barred [x, 2]` gives more (user, position) -inf. One after the other, so that they are
    written into the scores, of which there is never a copy.
    """
    scores = tf.matmul(query, items)
    found: list[tuple[tf.Tensor, tf.Tensor]] = []
    for pairs in barred:
        with tf.control_dependencies([each for best in found for each in best]):
            nothing = tf.fill(tf.shape(pairs)[:1], -np.inf)
            scores = tf.tensor_scatter_nd_update(scores, pairs, nothing)
        found.append(_select(scores, k))
    return found


def _select(scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best of `scores [U, n]` and their positions; n is a multiple of the block.

    The k best lie within the k blocks of the highest maxima: every other block has k items before
    its first. So most scores are only ever compared with their block's maximum, which is several
    times as fast as `tf.math.top_k` over all of them.
    """
    users = tf.shape(scores)[0]
    blocks = tf.reshape(scores, [users, -1, _BLOCK])
    maxima = tf.reduce_max(blocks, axis=2)
    _, chosen = tf.math.top_k(maxima, tf.minimum(k, tf.shape(blocks)[1]), sorted=False)
    chosen = tf.sort(chosen, axis=1)  # in the order of rows again: of equals the lower row wins
    candidates = tf.reshape(tf.gather(blocks, chosen, batch_dims=1), [users, -1])
    values, at = tf.math.top_k(candidates, tf.minimum(k, tf.shape(candidates)[1]))
    return values, tf.gather(chosen, at // _BLOCK, batch_dims=1) * _BLOCK + at % _BLOCK


def _transposed(items: NDArray[np.float32], low: int, width: int) -> tf.Tensor:
    """`[D, <= width]` of the table from a row on, in whole blocks."""
    part = tf.constant(items[low : low + width], tf.float32)
    return tf.transpose(tf.pad(part, [[0, -len(part) % _BLOCK], [0, 0]]))


def _padding(users: slice, num_rows: int, num_padded: int) -> NDArray[np.int64]:
    """(user, row) `[x, 2]` of what is no item."""
    rows = np.array([0, *range(num_rows, num_padded)])
    number = users.stop - users.start
    return np.stack([np.repeat(np.arange(number), len(rows)), np.tile(rows, number)], axis=1)


def _pairs(
    exclude: Sequence[tuple[NDArray[Any], NDArray[Any]] | None], users: slice
) -> NDArray[np.int64]:
    """(user, row) `[x, 2]` of what is excluded, users counted within the batch."""
    parts = [np.zeros((0, 2), np.int64)]
    for values, splits in filter(None, exclude):
        own = splits[users.start : users.stop + 1]
        user = np.repeat(np.arange(len(own) - 1), np.diff(own))
        parts.append(np.stack([user, np.asarray(values[own[0] : own[-1]], np.int64)], axis=1))
    return np.concatenate(parts)


def _slice(pairs: NDArray[np.int64], low: int, width: int) -> tf.Tensor:
    inside = pairs[(pairs[:, 1] >= low) & (pairs[:, 1] < low + width)]
    return tf.constant(inside - [0, low], tf.int32)


def _merge(parts: list[Any], rows: NDArray[np.int32], values: NDArray[np.float32]) -> None:
    """Writes the best of what the slices of the table gave."""
    scores, at = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(-scores, axis=1, kind="stable")[:, : rows.shape[1]]
        scores, at = np.take_along_axis(scores, order, 1), np.take_along_axis(at, order, 1)
    values[:, : scores.shape[1]] = scores
    rows[:, : scores.shape[1]] = np.where(np.isneginf(scores), 0, at)


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
