"""Full-corpus evaluation: the model and its baselines under one protocol, in numbers and as a page.

    python -m trainer.evaluate CONFIG [--set section.key=value]

Nothing is chosen on test here: the model comes from `model/best` (early stopping on validation),
ALS is tuned on validation, and test is ranked once by each. See `protocol` for what is measured.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything that imports TensorFlow
    import preprocessing.base.quiet  # noqa: F401

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.artifacts import (
    fingerprint,
    is_current,
    library_versions,
    require_replaceable,
    whole_directory,
    write_manifest,
)
from preprocessing.base.config_io import load_config
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import reachable
from preprocessing.base.progress import Stages
from preprocessing.finished import finished_data, finished_model
from trainer.config.sections import TrainerSections
from trainer.evaluation.baselines.popularity import PopularityRanker
from trainer.evaluation.baselines.ranker import Material, Ranker
from trainer.evaluation.baselines.registry import build
from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.measured import Clock, headline, long_tail_curve, measure_split
from trainer.evaluation.per_query import PER_QUERY, Rankings, write_per_query
from trainer.evaluation.protocol import QuerySplit, csr_of
from trainer.evaluation.queries import evaluation_queries
from trainer.evaluation.report.page import PLOTS, draw, render_html, render_table
from trainer.evaluation.retrieval import (
    item_embeddings,
    query_embeddings,
    top_items,
    top_items_by_mode,
)
from trainer.functional.metrics import Ints, Targets
from trainer.loop.build import load_model
from trainer.towers.recall_model import RecallModel

METRICS, REPORT = "metrics.json", "report.html"
SPLITS = ("validation", "test")
_FORMAT = 3
"""Of metrics.json; part of the fingerprint, so that a new format is never taken from an old run."""


class TwoTower:
    """The trained model as a ranker: exact inner products against every item, unseen ones too."""

    name = "model"

    def __init__(
        self, model: Any, items: Mapping[str, NDArray[np.float32]], batch_users: int
    ) -> None:
        """Takes the model and, by split, its item embeddings `[N + 1, D]` as of its start."""
        self._model, self._items, self._batch_users = model, items, batch_users
        self.not_finite = sum(int((~np.isfinite(rows)).sum()) for rows in items.values())
        """Values of items and of queries ranked so far that are no number: such a model knows nothing."""

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> Ints:
        """See `ranker.Ranker`."""
        users = query_embeddings(self._model, queries.features, self._batch_users)
        self.not_finite += int((~np.isfinite(users)).sum())
        exclude = queries.exclude if exclude_seen else None
        rows, _ = top_items(users, self._items[queries.name], k, exclude, self._batch_users)
        return np.asarray(rows, np.int64)

    def rank_by_mode(self, queries: QuerySplit, k: int) -> dict[str, Ints]:
        """See `ranker.RanksByMode`."""
        users = query_embeddings(self._model, queries.features, self._batch_users)
        self.not_finite += int((~np.isfinite(users)).sum())
        items = self._items[queries.name]
        found = top_items_by_mode(users, items, k, queries.exclude, self._batch_users)
        return {mode: np.asarray(rows, np.int64) for mode, rows in found.items()}


def evaluate(
    config: TrainerSections,
    data_dir: Path,
    model_dir: Path,
    output_dir: Path,
    *,
    command: str | None = None,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Measures model and baselines on validation and test.

    Writes metrics.json, per_query.parquet, report.html and a manifest. Does nothing but read metrics.json where the
    manifest in `output_dir` matches the `evaluate` section, the seed, the data and the model.

    Args:
      config: the sections of the trainer.
      data_dir: finished preprocessing.
      model_dir: finished training.
      output_dir: replaced as a whole.
      command: what was run, for the report.
      stages: shows progress.

    Returns:
      The content of metrics.json; docs/artifacts.md says what it holds.

    Raises:
      LongtailError: data or model are missing or do not fit each other, or `output_dir` holds
        something else.
    """
    stages = stages or Stages()
    data = finished_data(data_dir, config)
    trained = finished_model(model_dir, data)
    require_replaceable(output_dir)  # before any work
    settings = config.model_dump(mode="json", include={"evaluate", "prior"})
    wanted = fingerprint(
        _FORMAT, config.name, config.seed, settings, data["fingerprint"], trained["fingerprint"]
    )
    if is_current(output_dir, wanted):
        stages.console.print(f"  evaluation is current: {output_dir}", highlight=False)
        loaded: dict[str, Any] = json.loads((output_dir / METRICS).read_text())
        return loaded
    metrics, by_query = collect(config, data_dir, model_dir, stages)
    metrics["made"] = {
        "fingerprint": wanted,
        "data_fingerprint": data["fingerprint"],
        "command": command or "trainer.evaluate.evaluate",
        "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "libraries": library_versions(),
        # Without the places of this machine: reports are passed on.
        "config": config.model_dump(mode="json", exclude={"work_dir", "data"}),
    }
    metrics["data"] = {
        key: value for key, value in data.items() if key not in ("fingerprint", "libraries")
    }
    metrics["history"] = _history(model_dir)
    with stages.stage("writing the report"), whole_directory(output_dir) as temporary:
        (temporary / METRICS).write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        write_per_query(temporary / PER_QUERY, by_query)
        drawn = draw(metrics)
        (temporary / PLOTS).write_text(json.dumps(drawn) + "\n", encoding="utf-8")
        (temporary / REPORT).write_text(render_html(metrics, drawn=drawn), encoding="utf-8")
        write_manifest(
            temporary, wanted, {"headline": metrics["headline"], "seconds": metrics["seconds"]}
        )
    return metrics


def collect(
    config: TrainerSections, data_dir: Path, model_dir: Path | RecallModel, stages: Stages
) -> tuple[dict[str, Any], Rankings]:
    """All that comes from ranking, of a trained model or one at hand.

    Returns:
      The figures of metrics.json, and the hits of every ranking by query.
    """
    settings = config.evaluate
    with stages.stage("loading the model and the queries"):
        model = model_dir
        if not isinstance(model, RecallModel):
            model = load_model(config, data_dir, model)
        table = model.item_table
        buckets = assign_buckets(table.counts_events, settings.bucket_shares)
        splits = {name: read_split(config, data_dir, name, buckets.num_items) for name in SPLITS}
    clock = Clock()
    with stages.stage("embedding the catalogue"), clock("model / items"):
        items = {name: item_embeddings(model, table, as_of=name) for name in SPLITS}
        two_tower = TwoTower(model, items, settings.batch_users)
    rankers: list[Ranker] = [two_tower]
    material = Material.of(config, data_dir, table, buckets, splits["validation"], stages)
    tuning: dict[str, Any] = {}
    for name in settings.baselines:
        with clock(f"{name} / tune"):
            ranker, records = build(name, material)
        rankers.append(ranker)
        if records:
            tuning[name] = list(records)
    # The gates ask how the model does beside it, whatever is reported.
    unshown = [] if "popularity" in settings.baselines else [PopularityRanker(buckets.events)]
    measured, by_query = {}, Rankings()
    for name, split in splits.items():
        with stages.stage(f"ranking for {split.num_users:,} users of {name}"):
            measured[name], found = measure_split(
                split,
                rankers,
                buckets,
                settings.ks,
                clock,
                enough_hits=settings.enough_hits,
                unshown=unshown,
            )
        by_query.update(found)
    metrics = {
        "format": _FORMAT,
        "name": config.name,
        "ks": list(settings.ks),
        "headline": headline(measured["test"]["rankers"]["model"]),
        "buckets": buckets.summary(),
        "splits": measured,
        "tuning": {"monitor": f"recall@{settings.ks[-1]}/new", "tried": tuning},
        "catalogue": long_tail_curve(buckets),
        "seconds": clock.rounded(),
        "enough_hits": settings.enough_hits,
        "not_finite": two_tower.not_finite,
    }
    return metrics, by_query


def read_split(config: TrainerSections, data_dir: Path, name: str, num_items: int) -> QuerySplit:
    """The queries of a split, their targets and what the users had seen, for `protocol`.

    Of more than `evaluate.max_users` users a random sample, the same for every model of a seed.

    Raises:
      LongtailError: of test, nobody has a target: there is nothing to judge a model by.
    """
    queries = evaluation_queries(data_dir, name, config.evaluate.max_users, config.seed)
    if name == "test" and not len(queries.targets.values):
        raise LongtailError(
            f"{data_dir}: nobody of the split 'test' has a target, so nothing can be measured: set "
            "preprocess.split so that test holds interactions and run preprocess again"
        )
    users = np.arange(len(queries))
    wanted = np.repeat(users, np.diff(queries.targets.row_splits))
    had = np.repeat(users, np.diff(queries.seen.row_splits))
    seen = csr_of(had, queries.seen.values, queries.seen_counts.values, (len(users), num_items + 1))
    targets = Targets.from_pairs(wanted, queries.targets.values, len(users))
    return QuerySplit(name, queries.features, targets, seen, queries.users, queries.available)


def _history(model_dir: Path) -> list[dict[str, Any]]:
    """One record an evaluation during training; without values that JSON does not have."""
    try:
        records = json.loads((model_dir / "history.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()}
        for r in records
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point for the clouds."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate", description="Evaluate a trained model."
    )
    parser.add_argument("config", help="YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    parser.add_argument("--data-dir", type=Path, help="default: WORK_DIR/data")
    parser.add_argument("--model-dir", type=Path, help="default: WORK_DIR/model")
    parser.add_argument("--output-dir", type=Path, help="default: WORK_DIR/evaluation")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, TrainerSections, given.set)
        work = reachable(config.work_dir)
        stages = Stages()
        output = given.output_dir or work / "evaluation"
        overrides = "".join(f" --set {value}" for value in given.set)
        metrics = evaluate(
            config, given.data_dir or work / "data", given.model_dir or work / "model", output,
            command=f"python -m trainer.evaluate {given.config}{overrides}", stages=stages,
        )  # fmt: skip
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    stages.console.print(render_table(metrics))
    stages.console.print(f"  report: {output / REPORT}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
