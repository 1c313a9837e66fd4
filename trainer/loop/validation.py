"""The validation figures of a model in training: full-corpus ranking for some users."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from trainer.config.sections import TrainerSections
from trainer.evaluation.buckets import BUCKETS, assign_buckets
from trainer.evaluation.protocol import new_targets
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings, recall_on, top_items
from trainer.functional.metrics import Targets
from trainer.towers.recall_model import RecallModel


class Validation:
    """Ranks the whole catalogue for at most `evaluate.max_validation_users` users.

    The mode (new or all) is that of `train.monitor`; overall figures count targets with a training
    event, as the full evaluation does.
    """

    def __init__(self, config: TrainerSections, data_dir: Path) -> None:
        """Reads the queries and draws the sample.

        Raises:
          LongtailError: the split's files are missing or damaged.
        """
        most = config.evaluate.max_validation_users
        queries = evaluation_queries(data_dir, "validation", most, config.seed)
        self._queries = queries
        self._settings = config.evaluate
        self._mode = config.train.monitor.rpartition("/")[2]
        users = np.repeat(np.arange(len(queries)), np.diff(queries.targets.row_splits))
        targets = Targets.from_pairs(users, queries.targets.values, len(queries))
        self._targets = new_targets(targets, *queries.seen) if self._mode == "new" else targets

    def figures(self, model: RecallModel) -> dict[str, float]:
        """Measures `recall@k/new`, `ndcg@k/new`, `mrr@k/new` (or `all`), and recall by bucket.

        NaN where no user has a target.
        """
        settings, ks = self._settings, list(self._settings.ks)
        if not len(self._targets.items):  # of a final fit: nothing to rank the catalogue for
            names = [f"{m}@{k}/{self._mode}" for m in ("recall", "ndcg", "mrr") for k in ks]
            names += [f"recall@{ks[-1]}/{self._mode}/{bucket}" for bucket in BUCKETS]
            return dict.fromkeys(names, math.nan)
        users = query_embeddings(model, self._queries.features, settings.batch_users)
        exclude = self._queries.seen if self._mode == "new" else None
        rows, _ = top_items(
            users,
            item_embeddings(model, model.item_table, as_of="validation"),
            ks[-1],
            exclude,
            settings.batch_users,
        )
        buckets = assign_buckets(model.item_table.counts_events, settings.bucket_shares)
        overall = recall_on(rows, self._targets, buckets.known, ks)
        found = {f"{name}/{self._mode}": value for name, value in overall.items()}
        longest = f"recall@{ks[-1]}"
        for index, bucket in enumerate(BUCKETS):
            inside = recall_on(rows, self._targets, buckets.bucket_of_item == index, ks[-1:])
            found[f"{longest}/{self._mode}/{bucket}"] = inside[longest]
        return found
