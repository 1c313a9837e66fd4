"""The only file that builds Beam pipelines: the passes over the sources, each a method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform.beam as tft_beam

from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import shared
from preprocessing.beam import overhead, results, source_workers, workers
from preprocessing.beam.merging import Merge
from preprocessing.beam.runners import Runner
from preprocessing.beam.shuffle import Group, PartitionFile
from preprocessing.beam.source_workers import OUTCOMES, STATISTICS
from preprocessing.config import DataSections
from preprocessing.features import Side
from preprocessing.log import examples
from preprocessing.sources.columns import arrow_schema
from preprocessing.sources.readers import Unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes
from preprocessing.transform.item_counts import LogStatistics
from preprocessing.transform.mutual_information import MutualInformation
from preprocessing.transform.preprocessing_fn import ID_WEIGHT, make_preprocessing_fn
from preprocessing.transform.schema import adapter_config, raw_feature_spec

ROW = "row"


class BeamJob:
    """Runs the passes; files between them lie in ``scratch``, which all workers reach."""

    def __init__(self, config: DataSections, scratch: Path, runner: Runner) -> None:
        self._config = config
        self._scratch = scratch
        self._runner = runner

    def read_table(
        self, side: Side, units: list[Unit], partitions: int
    ) -> tuple[dict[int, list[PartitionFile]], RowOutcomes]:
        """Canonical rows of the item table (one partition) or of the users, by partition, and the tally."""
        out, done = self._folder(f"{side.value}_table"), self._result(f"{side.value}_table")
        counted = self._result(f"{side.value}_outcomes")
        paths = {unit.ordinal: unit.path for unit in units}
        with self._pipeline() as pipeline:
            read = pipeline | beam.Create(units) | beam.Reshuffle()
            reader = source_workers.ReadTable(self._config, side, out, partitions)
            read |= "Read" >> beam.ParDo(reader).with_outputs(OUTCOMES, main="pieces")
            _ = read.pieces | beam.combiners.ToList() | beam.ParDo(results.WriteResult(done))
            repeated = read.pieces | beam.GroupByKey()
            repeated |= "Repeated" >> beam.ParDo(source_workers.WithdrawRepeated(side, paths))
            tallies = (read[OUTCOMES], repeated) | beam.Flatten()
            self._keep_outcomes(tallies, source_workers.SOURCE[side], counted)
        return _grouped(results.read_result(done)), results.read_result(counted)

    def collect_items(self, units: list[Unit]) -> tuple[list[str], int]:
        """Distinct item keys of the log, for a project without an item table, and the rows that were read."""
        done = self._result("items")
        with self._pipeline() as pipeline:
            keys = (
                pipeline
                | beam.Create(units)
                | beam.Reshuffle()
                | beam.ParDo(source_workers.CollectItems(self._config))
            )
            _ = keys | beam.combiners.ToList() | beam.ParDo(results.WriteResult(done))
        parts = sorted(results.read_result(done))
        distinct = dict.fromkeys(key for _, part, _ in parts for key in part)
        return list(distinct), sum(rows for _, _, rows in parts)

    def ingest(
        self, units: list[Unit], catalogue: Path, partitions: int
    ) -> tuple[LogStatistics, RowOutcomes, dict[int, list[PartitionFile]]]:
        """Checked interactions by partition of users, and what was counted on the way."""
        out, done = self._folder("log"), self._result("log")
        counted, told = self._result("log_statistics"), self._result("log_outcomes")
        worker = source_workers.IngestLog(self._config, shared(catalogue), out, partitions)
        with self._pipeline() as pipeline:
            parts = pipeline | beam.Create(units) | beam.Reshuffle()
            parts |= "Ingest" >> beam.ParDo(worker).with_outputs(
                STATISTICS, OUTCOMES, main="pieces"
            )
            _ = (
                parts.pieces
                | beam.combiners.ToList()
                | "Pieces" >> beam.ParDo(results.WriteResult(done))
            )
            self._keep_statistics(parts[STATISTICS], counted)
            self._keep_outcomes(parts[OUTCOMES], LOG, told)
        return (
            results.read_result(counted),
            results.read_result(told),
            _grouped(results.read_result(done)),
        )

    def count_training(self, groups: list[Group], rules: examples.Rules) -> LogStatistics:
        """How often each item occurs in training interactions, which only the users' partitions can tell."""
        counted = self._result("training_counts")
        with self._pipeline() as pipeline:
            rows = pipeline | beam.Create(groups) | beam.Reshuffle()
            rows |= "Count" >> beam.ParDo(workers.CountTraining(self._config, rules))
            self._keep_statistics(rows, counted)
        return results.read_result(counted)

    def analyze_queries(
        self, groups: list[Group], rules: examples.Rules, graph: Path
    ) -> LogStatistics:
        """Writes the query's transform graph, analysed on training rows, and the user-item pairs; counts items."""
        pairs, counted = self._folder("user_items"), self._result("train_statistics")
        features = self._config.feature_list.query_columns
        with self._pipeline() as pipeline, self._transform_context():
            rows = pipeline | beam.Create(groups) | beam.Reshuffle()
            rows |= "Rows" >> beam.ParDo(
                workers.TrainingRows(self._config, rules, pairs)
            ).with_outputs(STATISTICS, main="rows")
            self._keep_statistics(rows[STATISTICS], counted)
            adapter = adapter_config(raw_feature_spec(features), examples.batch_schema(features))
            analyzed = (rows.rows, adapter) | tft_beam.AnalyzeDataset(
                make_preprocessing_fn(features, weighted_ids=False)
            )
            _ = analyzed | tft_beam.WriteTransformFn(shared(graph))
        return results.read_result(counted)

    def transform_items(
        self, catalogue: Path, batches: int, graph: Path
    ) -> tuple[list[Path], dict[str, Any]]:
        """Writes the items' transform graph and the transformed items by batch; gives the mutual information."""
        out, done = self._folder("items"), self._result("mutual_information")
        features = self._config.feature_list.item_columns
        spec = raw_feature_spec(features) | {ID_WEIGHT: tf.io.VarLenFeature(tf.float32)}
        schema = item_schema(self._config)
        with self._pipeline() as pipeline, self._transform_context({ROW}):
            rows = pipeline | beam.Create(range(batches)) | beam.Reshuffle()
            rows |= "Rows" >> beam.ParDo(workers.ItemRows(shared(catalogue)))
            adapter = adapter_config(spec, schema)
            analyzed = (rows, adapter) | tft_beam.AnalyzeDataset(
                make_preprocessing_fn(features, weighted_ids=True)
            )
            _ = analyzed | tft_beam.WriteTransformFn(shared(graph))
            (transformed, _meta) = ((rows, adapter), analyzed) | tft_beam.TransformDataset(
                output_record_batches=True
            )
            written = transformed | "Write" >> beam.ParDo(workers.WriteItems(out))
            combined = written | beam.CombineGlobally(MutualInformation(features))
            _ = combined | "Keep" >> beam.ParDo(results.WriteResult(done))
        return sorted(self._scratch.glob("items/from-*.parquet")), results.read_result(done)

    def write_examples(
        self,
        groups: list[Group],
        rules: examples.Rules,
        first_users: dict[int, int],
        graph: Path,
        out: Path,
    ) -> dict[str, int]:
        """Writes training examples and queries as TFRecord shards; gives the rows of each split."""
        done = self._result("written")
        features = self._config.feature_list.query_columns
        adapter = adapter_config(raw_feature_spec(features), examples.batch_schema(features))
        with (
            self._pipeline() as pipeline,
            self._transform_context(set(examples.passthrough_schema().names)),
        ):
            rows = pipeline | beam.Create(groups) | beam.Reshuffle()
            rows |= "Rows" >> beam.ParDo(workers.ExampleRows(self._config, rules, first_users))
            analyzed = pipeline | tft_beam.ReadTransformFn(shared(graph))
            (transformed, _meta) = ((rows, adapter), analyzed) | tft_beam.TransformDataset(
                output_record_batches=True
            )
            unused = examples.unused_fields(self._config)
            counts = transformed | "Write" >> beam.ParDo(workers.WriteExamples(shared(out), unused))
            _ = (
                counts
                | beam.CombinePerKey(sum)
                | beam.combiners.ToList()
                | beam.ParDo(results.WriteResult(done))
            )
        return dict(results.read_result(done))

    def _keep_statistics(self, statistics: beam.PCollection, path: str) -> None:
        _ = (
            statistics
            | beam.CombineGlobally(Merge(LogStatistics))
            | "Statistics" >> beam.ParDo(results.WriteResult(path))
        )

    def _keep_outcomes(self, outcomes: beam.PCollection, source: str, path: str) -> None:
        _ = (
            outcomes
            | "Outcomes" >> beam.CombineGlobally(Merge(partial(RowOutcomes, source)))
            | "Keep outcomes" >> beam.ParDo(results.WriteResult(path))
        )

    def _folder(self, name: str) -> str:
        folder = self._scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        return shared(folder)

    def _result(self, name: str) -> str:
        return shared(self._scratch / f"{name}.pickle")

    def _transform_context(self, passthrough: set[str] | None = None) -> tft_beam.Context:
        return tft_beam.Context(temp_dir=self._folder("tft"), passthrough_keys=passthrough)

    @contextmanager
    def _pipeline(self) -> Iterator[beam.Pipeline]:
        with overhead.signatures_read_once():
            pipeline = beam.Pipeline(runner=self._runner.make(), options=self._runner.options())
            yield pipeline
            try:
                pipeline.run().wait_until_finish()
            except Exception as error:
                raise _cause(error) from error


def item_schema(config: DataSections) -> pa.Schema:
    """Columns of the catalogue's batches: raw features, the ids' weight, the row that rides along."""
    own = [(ID_WEIGHT, pa.large_list(pa.float32())), (ROW, pa.large_list(pa.int64()))]
    return pa.schema(
        [*arrow_schema(config.feature_list.item_columns), *(pa.field(n, t) for n, t in own)]
    )


def _grouped(pieces: list[tuple[int, PartitionFile]]) -> dict[int, list[PartitionFile]]:
    groups: dict[int, list[PartitionFile]] = defaultdict(list)
    for partition, piece in pieces:
        groups[partition].append(piece)
    return dict(groups)


def _cause(error: BaseException) -> Exception:
    """The error that a worker met, without Beam's wrapping."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, LongtailError):
            return seen
        if isinstance(seen, OSError):
            return LongtailFailure(
                f"preprocessing stopped: {seen.strerror or seen} {seen.filename or ''}".rstrip()
            )
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, Exception):
        return error
    return RuntimeError(str(error))
