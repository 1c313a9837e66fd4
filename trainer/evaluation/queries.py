"""The queries of validation and test: the users of a split as of its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.examples_io import (
    count_records,
    evaluation_spec,
    example_files,
    pad,
    read_columns,
)
from trainer.data.ragged import Ragged


@dataclass(frozen=True)
class EvaluationQueries:
    """The users of a split as of its start.

    Attributes:
      features: name -> `[U]` or `[U, n]`, padded with 0: the input of the query tower.
      users: `[U]` raw keys as bytes.
      targets: rows of the items of the split, for each user.
      seen: distinct rows before the split, for each user.
      seen_counts: how often each of `seen`.
      available: users of the split, of which the U are a sample.
    """

    features: dict[str, NDArray[Any]]
    users: NDArray[Any]
    targets: Ragged
    seen: Ragged
    seen_counts: Ragged
    available: int

    def __len__(self) -> int:
        """U."""
        return len(self.users)


def evaluation_queries(
    data_dir: Path, split: str, max_users: int | None = None, seed: int = 0
) -> EvaluationQueries:
    """Reads the queries of a split.

    Args:
      data_dir: finished preprocessing.
      split: `validation` or `test`.
      max_users: users at most, drawn without replacement; only theirs are parsed and held.
      seed: of the sample.

    Raises:
      LongtailError: the files are missing or damaged.
    """
    files, spec = example_files(Path(data_dir), split), evaluation_spec(Path(data_dir))
    available = count_records(files)
    chosen = None
    if max_users is not None and available > max_users:
        drawn = np.random.default_rng(seed).choice(available, max_users, replace=False)
        chosen = np.zeros(available, np.bool_)
        chosen[drawn] = True
    read: dict[str, Any] = {**read_columns(files, spec, chosen=chosen)}
    users = read.pop("user")
    targets, seen, counts = (read.pop(name) for name in ("targets", "seen", "seen_counts"))
    features = {}
    for name, values in read.items():
        if isinstance(values, Ragged):
            values = pad(values, int(np.diff(values.row_splits).max(initial=1)))
        features[name] = values
    return EvaluationQueries(features, users, targets, seen, counts, available)
