"""The training events of users and items as a matrix, and samples of users to tune on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from preprocessing.base.errors import LongtailError
from trainer.evaluation.protocol import QuerySplit, csr_of

if TYPE_CHECKING:
    import scipy.sparse as sp


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
