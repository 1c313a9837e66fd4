"""What an ablation measures: recall on new items, by popularity bucket and weight of the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from preprocessing.base.progress import Stages
from trainer.config.sections import TrainerSections
from trainer.data.catalogue import Catalogue
from trainer.evaluate import SPLITS, TwoTower, read_split
from trainer.evaluation.baselines.ranker import Material, Ranker
from trainer.evaluation.baselines.registry import REPEAT_ONLY, build
from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.protocol import measure
from trainer.evaluation.retrieval import item_embeddings
from trainer.towers.recall_model import RecallModel

GROUPS = ("overall", "head", "torso", "tail")
Json = dict[str, Any]


class ArmEvaluation:
    """Ranks the splits in mode `new` (see `trainer.evaluation.protocol`), to the longest list."""

    def __init__(self, config: TrainerSections, data_dir: Path, betas: list[float]) -> None:
        """Reads the queries of both splits.

        Args:
          config: `features`, `evaluate` and `seed` (of ALS) are read.
          data_dir: finished preprocessing.
          betas: weights of log P when serving.

        Raises:
          LongtailError: the data are missing or damaged.
        """
        self.betas, self.k = betas, config.evaluate.ks[-1]
        self._config, self._data_dir = config, data_dir
        self._catalogue = Catalogue.read(data_dir)
        self._buckets = assign_buckets(self._catalogue.counts_events, config.evaluate.bucket_shares)
        self._splits = {
            name: read_split(config, data_dir, name, self._buckets.num_items) for name in SPLITS
        }
        self._targets = {name: split.targets_of("new") for name, split in self._splits.items()}

    def model(self, model: RecallModel, split: str) -> Json:
        """Group -> recall for each beta."""
        # Items do not depend on beta: they are embedded once.
        items = {split: item_embeddings(model, model.item_table, as_of=split)}
        ranker = TwoTower(model, items, self._config.evaluate.batch_users)
        found: dict[str, list[float | None]] = {group: [] for group in GROUPS}
        for beta in self.betas:
            model.prior_beta.assign(beta)
            for group, recall in self._recall(ranker, split).items():
                found[group].append(recall)
        return found

    def baselines(self) -> Json:
        """Those of `evaluate.baselines` that can name new items, by name.

        Returns:
          For each split group -> recall; of tuned ones also the `settings` that validation chose.
        """
        found: Json = {}
        for ranker in self._rankers():
            cells: Json = {name: self._recall(ranker, name) for name in SPLITS}
            if settings := getattr(ranker, "settings", None):
                cells["settings"] = settings
            found[ranker.name] = cells
        return found

    def _recall(self, ranker: Ranker, split: str) -> dict[str, float | None]:
        ranked = ranker.rank(self._splits[split], self.k, exclude_seen=True)
        cells = measure(ranked, self._targets[split], self._buckets, [self.k]).cells
        return {group: cells[group][f"recall@{self.k}"] for group in GROUPS}

    def _rankers(self) -> list[Ranker]:
        quiet = Stages(Console(quiet=True))
        material = Material.of(
            self._config,
            self._data_dir,
            self._catalogue,
            self._buckets,
            self._splits["validation"],
            quiet,
        )
        names = [n for n in self._config.evaluate.baselines if n not in REPEAT_ONLY]
        return [build(name, material).ranker for name in names]
