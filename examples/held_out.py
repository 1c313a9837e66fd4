"""A log with each user's end held out, and recall on it by Longtail's own evaluation; for the other examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.protocol import csr_of, measure
from trainer.evaluation.retrieval import top_items
from trainer.functional.metrics import Targets

K = 100
GROUPS = ("overall", "head", "torso", "tail")


class Log(NamedTuple):
    """Users from 0 and items from 1: training pairs, targets, and what users have in training."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    counts: NDArray[np.int64]
    targets: Targets
    seen: Any


def read(path: Path) -> Log:
    """The log, each user's last fifth held out; items that training never saw count as none."""
    log = pd.read_parquet(path).sort_values(["user_id", "timestamp"], kind="stable")
    user = pd.factorize(log.user_id)[0]
    place = log.groupby("user_id").cumcount() / log.groupby("user_id").user_id.transform("size")
    held_out = (place >= 0.8).to_numpy()
    known = pd.Index(log.item_id[~held_out].unique())
    item = known.get_indexer(log.item_id) + 1  # 0 for the others
    users, items = user[~held_out], item[~held_out]
    shape = (int(user.max()) + 1, len(known) + 1)
    targets = Targets.from_pairs(user[held_out], item[held_out], shape[0])
    seen = csr_of(users, items, np.ones(len(items)), shape)
    return Log(users, items, np.bincount(items, minlength=shape[1]), targets, seen)


def recalls(users: NDArray[np.float32], items: NDArray[np.float32], log: Log) -> list[float]:
    """Recall@100 of each group: all items are ranked but those that the user has in training.

    Args:
      users: `[U, D]` embeddings.
      items: `[N + 1, D]`; place 0 is no item.
      log: what is held out. Head, torso and tail take 50, 30 and 20 % of training.
    """
    ranked, _ = top_items(users, items, K, (log.seen.indices, log.seen.indptr), batch_users=512)
    buckets = assign_buckets(log.counts, (0.5, 0.3))
    cells = measure(ranked.astype(np.int64), log.targets, buckets, [K]).cells
    return [cells[group][f"recall@{K}"] for group in GROUPS]
