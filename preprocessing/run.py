"""The preprocessing step: sources in, one whole ``data/`` directory out. ``python -m preprocessing.run CONFIG``."""

from __future__ import annotations

if __name__ == "__main__":  # before anything that imports TensorFlow
    import preprocessing.base.quiet  # noqa: F401

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.base.artifacts import (
    fingerprint,
    is_current,
    read_manifest,
    whole_directory,
    write_manifest,
)
from preprocessing.base.config_io import load_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import reachable, shared
from preprocessing.base.progress import Stages
from preprocessing.beam.jobs import ROW, BeamJob, item_schema
from preprocessing.beam.runners import Runner
from preprocessing.beam.shuffle import Group, PartitionFile, read_pieces
from preprocessing.config import DataSections, TableConfig
from preprocessing.features import Side
from preprocessing.finished import FORMAT, settings
from preprocessing.log import (
    dropped_items,
    events,
    examples,
    ingest,
    joins,
    samples,
    splits,
    time_range,
)
from preprocessing.log.empty_splits import require_examples
from preprocessing.sources import key_tables as catalogue
from preprocessing.sources.readers import plan, state
from preprocessing.sources.row_outcomes import ITEMS, RowOutcomes, Rows
from preprocessing.sources.row_report import FOLDERS, report, report_users
from preprocessing.transform.item_counts import LogStatistics
from preprocessing.transform.preprocessing_fn import ID_WEIGHT


def data_fingerprint(config: DataSections, *, with_log: bool = True) -> str:
    """What the artifact depends on: the sections read here and the sources' names, sizes and times of change.

    Args:
      config: the sections.
      with_log: whether the files of the log count; not where another system names them.
    """
    sections = config.model_dump(mode="json", include={"seed", "data", "features", "preprocess"})
    log = config.data.interactions if with_log else None
    tables = [t for t in (log, config.data.items, config.data.users) if t]
    return fingerprint(FORMAT, sections, [state(table) for table in tables])


def preprocess(
    config: DataSections,
    data_dir: Path,
    *,
    beam_options: Iterable[str] = (),
    stages: Stages | None = None,
) -> dict[str, Any]:
    """Run every pass, or none where ``data_dir`` is current.

    Returns:
      The manifest: counts, rejected rows by reason, boundaries of the split, seconds a stage.

    Raises:
      LongtailError: the runner's options are not enough, the sources cannot be read as configured, too many rows
        were rejected, or another process preprocesses to the same place.
      LongtailFailure: the disk is full or a job died; nothing is left behind.
    """
    stages = stages or Stages()
    runner = Runner(config, beam_options)
    runner.check(data_dir)
    wanted = data_fingerprint(config)
    if is_current(data_dir, wanted):
        stages.console.print(f"  data is current: {data_dir}", highlight=False)
        return read_manifest(data_dir) or {}
    with (
        whole_directory(data_dir) as out,
        tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as scratch,
    ):
        manifest = _Run(config, out, Path(scratch), runner, stages).run()
        manifest["seconds"] = stages.seconds
        write_manifest(out, wanted, {**manifest, "settings": settings(config)})
    return read_manifest(data_dir) or {}


class _Run:
    """The passes in order; small results go from one to the next through this object."""

    def __init__(
        self,
        config: DataSections,
        out: Path,
        scratch: Path,
        runner: Runner,
        stages: Stages,
    ) -> None:
        self._config, self._out, self._scratch, self._stages = config, out, scratch, stages
        self._job = BeamJob(config, scratch, runner)
        self._sources: dict[str, RowOutcomes] = {}
        self._collected: int | None = None
        for folder in FOLDERS:
            (out / folder).mkdir()

    def run(self) -> dict[str, Any]:
        config = self._config
        log_units, log_rows = plan(config.data.interactions, ingest.source_columns(config))
        partitions = max(1, math.ceil(log_rows / config.preprocess.rows_per_partition))
        time_range.look(log_units, config)
        with self._stages.stage("reading the catalogue"):
            items = self._items(log_units)
            users = self._users(partitions)
        with self._stages.stage("checking and dividing the log"):
            statistics, outcomes, log = self._job.ingest(
                log_units, self._scratch / "keys.parquet", partitions
            )
        self._report(outcomes, config.data.interactions)
        if self._collected not in (None, outcomes.rows):
            raise LongtailFailure(
                f"{config.data.interactions.path} had {self._collected:,} rows in the first pass and "
                f"{outcomes.rows:,} in the second: it changed while it was read; run again"
            )
        if config.data.refused:
            self._stages.console.print(
                f"  {statistics.counters['refused']:,} of {outcomes.rows:,} rows are refusals",
                highlight=False,
            )
        events.tell(
            outcomes, statistics.counters["interactions"], config.data, self._stages.console
        )
        time_range.check_range(statistics.times, config.data, self._stages.console)
        groups: list[Group] = [
            (number, pieces, users.get(number, [])) for number, pieces in sorted(log.items())
        ]
        rules = self._rules(statistics, groups, len(items) + 1)
        graph = self._out / "transform_graph"
        with self._stages.stage(
            "analysing queries", self._counter("user_items/*.parquet"), len(groups)
        ):
            train = self._job.analyze_queries(groups, rules, graph / "query")
        if not train.counters["train_examples"]:
            raise LongtailError(
                f"no interaction is left to train on: {dict(train.counters)}; lower min_item_count and "
                "min_user_count, or move the split"
            )
        require_examples(train.counters, config.preprocess.split)
        report_users(train.counters, config.data, self._stages.console)
        with self._stages.stage("transforming items"):
            self._transform_items(items, train)
        first_users = joins.pairs(self._scratch / "user_items", self._out / "user_items.parquet")
        for name in ingest.SPLITS:
            (self._out / "examples" / name).mkdir(parents=True)
        total = len(groups)
        done = self._counter("../examples/train/*.tfrecord")
        with self._stages.stage("writing examples", done, total):
            written = self._job.write_examples(
                groups, rules, first_users, graph / "query", self._out / "examples"
            )
        samples.write(self._out / "sample_queries.json", groups, rules, config, items["item"])
        counters = statistics.counters + train.counters + outcomes.set_aside
        counters["rows"] = outcomes.rows
        rejected = sum((each.rejected for each in self._sources.values()), Counter[str]())
        return {
            "counts": {**dict(sorted(counters.items())), "items": len(items), "examples": written},
            "sources": {name: each.summary() for name, each in self._sources.items()},
            "rejected": dict(rejected),
            "split": splits.describe(rules.bounds, config.preprocess.split, rules.ends[-1]),
        }

    def _items(self, log_units: list[Any]) -> pa.Table:
        """The catalogue: key, title and raw features; rows are its order."""
        config = self._config
        if config.data.items is None:
            found, self._collected = self._job.collect_items(log_units)
            keys = pa.array(found, pa.large_string())
            batch = pa.RecordBatch.from_arrays([keys], [config.data.columns.item])
            rows, each = Rows.following(batch, config.data.interactions.path), RowOutcomes(ITEMS)
            items = [catalogue.canonical(rows, config.data, Side.ITEM, config.feature_list, each)]
            table = pa.Table.from_batches(items)
        else:
            read = read_pieces(self._read(config.data.items, Side.ITEM, 1).get(0, []))
            if read is None:
                raise LongtailError(f"{config.data.items.path} holds no items")
            table = catalogue.distinct(read, "item")
        joins.write_parquet(table.select(["item"]), self._scratch / "keys.parquet")
        return table

    def _users(self, partitions: int) -> dict[int, list[PartitionFile]]:
        if self._config.data.users is None:
            return {}
        return self._read(self._config.data.users, Side.QUERY, partitions)

    def _read(
        self, table: TableConfig, side: Side, partitions: int
    ) -> dict[int, list[PartitionFile]]:
        columns = catalogue.side_columns(self._config.data, side, self._config.feature_list)
        units, _ = plan(table, columns)
        pieces, outcomes = self._job.read_table(side, units, partitions)
        self._report(outcomes, table)
        return pieces

    def _report(self, outcomes: RowOutcomes, table: TableConfig) -> None:
        limit = self._config.preprocess.max_rejected_fraction
        report(outcomes, table.path, self._out, limit, self._stages.console)
        self._sources[outcomes.source] = outcomes

    def _rules(
        self, statistics: LogStatistics, groups: list[Group], num_rows: int
    ) -> examples.Rules:
        bounds = None
        if statistics.counters["interactions"]:
            bounds = splits.boundaries(self._config.preprocess.split, statistics.times)
        last = int(statistics.times.values.max(initial=0))
        rules = examples.Rules.of(self._config.preprocess.split, bounds, last)
        least = self._config.preprocess.min_item_count
        if least == 1 or not groups:
            return rules
        with self._stages.stage("counting items of training"):
            counts = self._job.count_training(groups, rules).item_counts["train"].dense(num_rows)
        path = shared(self._scratch / "dropped_items")
        dropped_items.write(path, counts < least)
        return replace(rules, dropped_items=path)

    def _transform_items(self, items: pa.Table, train: LogStatistics) -> None:
        counts = train.item_table(len(items))
        joins.write_parquet(counts, self._out / "item_counts.parquet")
        events, features = counts["events"].to_numpy(), self._config.feature_list
        samples.write_items(self._out / "sample_items.json", items, events, features)
        singles = np.arange(len(items) + 1)
        own = {
            ID_WEIGHT: counts["examples"].combine_chunks().cast(pa.float32()),
            ROW: pa.array(singles[1:], pa.int64()),
        }
        raw = {
            n: pa.LargeListArray.from_arrays(pa.array(singles, pa.int64()), v)
            for n, v in own.items()
        }
        schema = item_schema(self._config)
        raw |= {name: items[name].combine_chunks() for name in schema.names if name not in raw}
        table = pa.Table.from_arrays([raw[f.name].cast(f.type) for f in schema], schema=schema)
        path = self._scratch / "catalogue.arrow"
        with pa.ipc.new_file(path, schema) as writer:
            writer.write_table(table, max_chunksize=self._config.preprocess.batch_rows)
        batches = math.ceil(len(items) / self._config.preprocess.batch_rows)
        parts, information = self._job.transform_items(
            path, batches, self._out / "transform_graph" / "item"
        )
        (self._out / "feature_mi.json").write_text(json.dumps(information) + "\n")
        joins.items(parts, items, self._config.feature_list.item_columns, self._out / "items")

    def _counter(self, pattern: str) -> Any:
        return lambda: sum(1 for _ in self._scratch.glob(pattern))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point for the clouds; unknown options are Beam's own."""
    parser = argparse.ArgumentParser(prog="python -m preprocessing.run", description=__doc__)
    parser.add_argument("config", help="YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    parser.add_argument("--data-dir", help="default: WORK_DIR/data")
    known, beam_options = parser.parse_known_args(arguments)
    try:
        config = load_config(known.config, DataSections, known.set)
        data_dir = reachable(known.data_dir or f"{config.work_dir}/data")
        preprocess(config, data_dir, beam_options=beam_options)
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
