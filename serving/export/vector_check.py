"""Whether the vectors that leave an export are what its index holds, and its scores their products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailFailure
from preprocessing.features import FeatureList
from serving.export.sample_requests import Arrays, Items, item_arrays, no_exclusions
from serving.export.signatures import ITEM
from serving.index.interface import Index
from serving.server.servable import Servable
from trainer.base.keras2 import tf

TOLERANCE = 1e-4
"""Between embeddings (of length 1) or scores of two runs of the same float32 graph."""


def require_alike(
    served: NDArray[Any], wanted: NDArray[Any], expected: str, name: Callable[[int], str]
) -> float:
    """The largest difference between vectors that should be the same, [N, D] with N > 0.

    Args:
      served: what the exported model answered.
      wanted: what it should have answered.
      expected: the start of the refusal.
      name: says of a place in N what it holds.

    Raises:
      LongtailFailure: a vector differs by more than `TOLERANCE`; names the worst.
    """
    difference = np.abs(served - wanted).max(axis=1)
    worst = int(difference.argmax())
    fits = difference <= TOLERANCE  # NaN does not
    if not fits.all():
        raise LongtailFailure(
            f"{expected} within {TOLERANCE}, received a difference of {difference[worst]:.2g} for "
            f"{name(worst)}, and above that limit for {int((~fits).sum())} of {len(fits)}: "
            "preprocess, train and export with one version of the code"
        )
    return float(difference[worst])


def check_items(
    servable: Servable, items: Items, ids: NDArray[Any], index: Index, features: FeatureList
) -> dict[str, Any]:
    """Compare `embed_item` of raw items with the rows of the index.

    Args:
      servable: the exported model.
      items: of the catalogue, from head to tail.
      ids: raw keys by row.
      index: the one exported.
      features: the feature list.

    Returns:
      The number of items and the largest difference.

    Raises:
      LongtailFailure: a vector differs from its row.
    """
    if not items.rows:
        return {"items": 0}
    asks_for_id = ITEM in servable.input_types("embed_item")
    served = np.concatenate(
        [
            servable.run(
                "embed_item", item_arrays([raw], features, [ids[row]] if asks_for_id else None)
            )["embedding"]
            for row, raw in zip(items.rows, items.raw, strict=True)
        ]
    )
    held = index.vectors(tf.constant(items.rows, tf.int64)).numpy()

    def name(at: int) -> str:
        row = items.rows[at]
        return f"item {ids[row].decode(errors='replace')!r}, row {row}"

    expected = "expected embed_item to give what the index holds of an item"
    return {"items": len(held), "item_difference": require_alike(served, held, expected, name)}


def check_scores(
    servable: Servable,
    requests: Sequence[Arrays],
    vectors: NDArray[np.float32],
    ids: NDArray[Any],
    index: Index,
    k: int,
) -> float:
    """Compare the scores of `recommend` with `embed_query` times the rows of what was recommended.

    Args:
      servable: the exported model.
      requests: inputs of `embed_query`, one query each.
      vectors: [Q, D], what it answered.
      ids: raw keys by row.
      index: the one exported.
      k: items asked for; no more than there are.

    Returns:
      The largest difference.

    Raises:
      LongtailFailure: a score is not the product of the vectors.
    """
    extra = {"exclude": no_exclusions(1), "k": np.array(k, np.int32)}
    answers = [servable.run("recommend", {**request, **extra}) for request in requests]
    named = np.concatenate([answer["item_ids"] for answer in answers])
    scores = np.concatenate([answer["scores"] for answer in answers])
    wanted = set(named.ravel().tolist())
    rows = {key: row for row, key in enumerate(ids.tolist()) if key in wanted}
    at = np.array([[rows[key] for key in line] for line in named.tolist()], np.int64)
    found = at > 0  # an index may know fewer than k
    held = index.vectors(tf.constant(np.maximum(at, 1))).numpy()
    products = np.einsum("qd,qkd->qk", vectors, held)
    gap = float(np.abs(np.where(found, products - scores, 0)).max(initial=0))
    if not gap <= TOLERANCE:
        raise LongtailFailure(
            f"expected each score of recommend to be embed_query times the item's row within "
            f"{TOLERANCE}, received a difference of {gap:.2g}: export again"
        )
    return gap
