"""What the user had most often: it repeats by design, so it has nothing to say about new items."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.baselines.ranker import Built, Material
from trainer.evaluation.protocol import QuerySplit
from trainer.functional.metrics import Ints


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


def build_own_frequent(material: Material) -> Built:
    """See `registry`."""
    return Built(OwnFrequent())
