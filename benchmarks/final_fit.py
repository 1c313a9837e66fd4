"""What it is worth to learn what validation and test held out, before a model is served.

    python -m benchmarks.final_fit configs/complete_journey.yaml [--days 14] [--set KEY=VALUE] [--out FILE.json]

The log is cut `--days` before its end, at T. A model is trained on the log until T as for an evaluation, and is fitted
in the end in each way of `train.final_fit`. All are then judged on the events after T: the same queries, as of T, and
the same popularity, as of T, so that only the weights differ. Keys that a model did not train read the row of unknown
ones. Differences are paired by household. Finished parts are found again in `--work-dir`.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timedelta
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines import config as configuration
from pipelines import datasets
from pipelines.config import Paths, RunConfig
from pipelines.rollout.final_fit import fitting
from preprocessing.base.artifacts import library_versions, write_text_atomically
from preprocessing.run import preprocess
from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.protocol import measure, new_targets, paired_difference
from trainer.evaluation.queries import EvaluationQueries, evaluation_queries
from trainer.evaluation.retrieval import item_embeddings, query_embeddings, top_items
from trainer.functional.metrics import Targets
from trainer.loop.continuation import Previous, carried_over
from trainer.task import train

WAYS = ("none", "continue", "from_scratch")
GROUPS = ("overall", "head", "torso", "tail", "unseen")


class Trial:
    """The data until T, those that judge, and the models of each seed."""

    def __init__(self, path: Path, root: Path, days: int, settings: list[str]) -> None:
        self._path, self._root, self._settings = path, root, settings
        self._console = Console()
        config, _ = configuration.load(path, settings)
        datasets.fetch(config.data)
        time = config.data.columns.timestamp
        log = pq.read_table(config.data.interactions.path)
        self.cut: datetime = pc.max(log[time]).as_py() - timedelta(days=days)
        root.mkdir(parents=True, exist_ok=True)
        part = root / "log.parquet"
        if not part.is_file():
            pq.write_table(log.filter(pc.less(log[time], self.cut)), part)
        self._until = [f"data.interactions.path={part}"]
        # A day apart, since neither split may be empty: what a model learned of that day counts.
        instants = {"validation_from": self.cut - timedelta(days=1), "test_from": self.cut}
        self._after = [
            f"preprocess.split.{k}={v.isoformat(timespec='seconds')}Z" for k, v in instants.items()
        ]
        self.judge = root / "judge"
        preprocess(self._config(0, self._after), self.judge)
        self._queries = evaluation_queries(self.judge, "test")

    def model(self, seed: int, way: str) -> Path:
        """Trains, unless that is done; gives the run's directory."""
        run = self._root / f"seed-{seed}"
        config = self._config(seed, [*self._until, f"train.final_fit={way}"])
        paths = Paths(run, config.name)
        self._preprocess(config, paths, self._root / "data")
        train(config, paths.data, paths.model, console=self._console)
        if way == "none":
            return run
        changed, places = fitting(config, paths)
        places = Paths(run / way, config.name)
        self._preprocess(changed, places, self._root / "data-final")
        train(changed, places.data, places.model, console=self._console)
        return places.work_dir

    def judged(self, seed: int, run: Path) -> dict[str, Any]:
        """Recall by group on what came after T, overall also by household."""
        config = self._config(seed, self._after)
        model, _ = carried_over(config, self.judge, Previous.open(run))
        queries, k = self._queries, config.evaluate.ks[-1]
        users = query_embeddings(model, queries.features, config.evaluate.batch_users)
        items = item_embeddings(model, model.item_table, as_of="test")
        ranked, _ = top_items(users, items, k, queries.seen, config.evaluate.batch_users)
        buckets = assign_buckets(model.item_table.counts_events, config.evaluate.bucket_shares)
        found = measure(ranked.astype(np.int64), _targets(queries), buckets, [k])
        figures = {group: found.cells[group][f"recall@{k}"] for group in GROUPS}
        return {"figures": figures, "recall": found.recall}

    def _preprocess(self, config: RunConfig, paths: Paths, shared: Path) -> None:
        """Once for all seeds."""
        preprocess(config.model_copy(update={"seed": 0}), shared)
        paths.work_dir.mkdir(parents=True, exist_ok=True)
        if not paths.data.exists():
            paths.data.symlink_to(shared.resolve())

    def _config(self, seed: int, more: list[str]) -> RunConfig:
        return configuration.load(self._path, [*self._settings, *more, f"seed={seed}"])[0]


def _targets(queries: EvaluationQueries) -> Targets:
    """What households took for the first time."""
    users = np.repeat(np.arange(len(queries)), np.diff(queries.targets.row_splits))
    targets = Targets.from_pairs(users, queries.targets.values, len(queries))
    return new_targets(targets, *queries.seen)


def compare(trial: Trial, seeds: int) -> dict[str, Any]:
    """Figures of each way by seed, and their paired differences from serving what was evaluated."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    against: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS[1:]}
    for seed in range(seeds):
        judged = {way: trial.judged(seed, trial.model(seed, way)) for way in WAYS}
        for way, found in judged.items():
            runs[way].append(found["figures"])
            if way != "none":
                theirs = judged["none"]["recall"]
                against[way].append(
                    {g: paired_difference(found["recall"][g], theirs[g]) for g in GROUPS}
                )
    return {"cut": str(trial.cut), "runs": runs, "minus none": against}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--days", type=int, default=14, help="of the log, that come after T")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work-dir", type=Path, default=Path("runs/final_fit"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as `longtail run` takes it"
    )
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    given = parser.parse_args()
    result = compare(Trial(given.config, given.work_dir, given.days, given.set), given.seeds)
    if given.out:
        document = {
            "libraries": library_versions(),
            "days": given.days,
            "settings": given.set,
            **result,
        }
        write_text_atomically(given.out, json.dumps(document, indent=1) + "\n")
    table = Table("final_fit", *GROUPS)
    for way, runs in result["runs"].items():
        cells = []
        for group in GROUPS:
            values = [run[group] or 0.0 for run in runs]
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.4f}{spread}")
        table.add_row(way, *cells)
    for way, differences in result["minus none"].items():
        cells = []
        for group in GROUPS:
            each = [difference[group] for difference in differences]
            value = mean(one["difference"] or 0.0 for one in each)
            cells.append(f"{value:+.4f} ± {mean(one['se'] or 0.0 for one in each):.4f}")
        table.add_row(f"{way} - none, paired", *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
