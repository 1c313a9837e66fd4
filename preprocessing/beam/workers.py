"""What Beam workers do with an element once the sources are read: work on a partition, write a shard.

Defined at module level, so that every runner can send them to its workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput
from numpy.typing import NDArray

from preprocessing.beam.shuffle import Group, read_batches, read_pieces
from preprocessing.beam.source_workers import STATISTICS
from preprocessing.config import AS_OF, DataSections
from preprocessing.features import Side
from preprocessing.log import examples, ingest, splits
from preprocessing.sources import key_tables as catalogue
from preprocessing.sources import record_blocks
from preprocessing.transform.item_counts import LogStatistics


class _PartitionWorker(beam.DoFn):
    def __init__(self, config: DataSections, rules: examples.Rules) -> None:
        self._config, self._rules = config, rules

    def _load(self, element: Group) -> tuple[examples.Partition, examples.Users]:
        known = read_pieces(element[2])
        if known is not None:
            known = catalogue.distinct(known, catalogue.KEY[Side.QUERY])
        part = examples.sort_and_split(_log(element), self._config, self._rules)
        return part, examples.Users(known, self._config)


class CountTraining(_PartitionWorker):
    """How often each item occurs in the training interactions of a partition, before any of them is dropped."""

    def process(self, element: Group) -> Iterator[LogStatistics]:
        """Yields the counts ``train``."""
        part = examples.divide(_log(element), self._config, self._rules)
        statistics = LogStatistics()
        statistics.count_items("train", part.item[part.split == splits.TRAIN])
        yield statistics


class TrainingRows(_PartitionWorker):
    """A partition to its raw training rows for analysis; counts items and writes the user-item pairs of training."""

    def __init__(self, config: DataSections, rules: examples.Rules, directory: str) -> None:
        super().__init__(config, rules)
        self._directory = directory

    def process(self, element: Group) -> Iterator[Any]:
        """Yields record batches, and the statistics by tag."""
        part, users = self._load(element)
        statistics = LogStatistics()
        train = part.split == splits.TRAIN
        chosen = examples.training_rows(part, self._config)
        statistics.count_items("events", part.item[train])
        for last, (name, end) in enumerate(zip(AS_OF, self._rules.ends, strict=True)):
            known = (part.split >= 0) & (part.split <= last)
            age = (end - part.time[known]) / (86_400e6 * self._config.preprocess.half_life_days)
            statistics.count_items(f"recent_{name}", part.item[known], np.exp2(-age))
        statistics.count_items("examples", part.item[chosen])
        statistics.counters["users"] = len(np.unique(part.user))
        statistics.counters["users_in_table"] = users.known(
            part.table["user"].combine_chunks().unique()
        )
        statistics.counters["train_users"] = len(np.unique(part.user[train]))
        for name, code in zip(ingest.SPLITS, range(3), strict=True):
            statistics.counters[f"{name}_interactions"] = int((part.split == code).sum())
        statistics.counters["dropped_interactions"] = int((part.split == splits.DROPPED).sum())
        statistics.counters["train_examples"] = len(chosen)
        _write_pairs(
            part, train, FileSystems.join(self._directory, f"part-{element[0]:05d}.parquet")
        )
        yield TaggedOutput(STATISTICS, statistics)
        if len(chosen):
            batch = examples.training_batch(part, users, self._config, self._rules, element[0])
            rows = self._config.preprocess.batch_rows
            yield from (batch.slice(at, rows) for at in range(0, batch.num_rows, rows))


class ExampleRows(_PartitionWorker):
    """A partition to the raw rows of its training examples and its validation and test queries."""

    def __init__(
        self, config: DataSections, rules: examples.Rules, first_users: dict[int, int]
    ) -> None:
        super().__init__(config, rules)
        self._first_users = first_users

    def process(self, element: Group) -> Iterator[pa.RecordBatch]:
        """Yields a record batch a split that has rows."""
        part, users = self._load(element)
        number = element[0]
        first = self._first_users[number]
        batches = [examples.training_batch(part, users, self._config, self._rules, number, first)]
        for split in (splits.VALIDATION, splits.TEST):
            batches.append(examples.query_batch(part, users, self._config, split, number))
        yield from (batch for batch in batches if batch.num_rows)


class WriteExamples(beam.DoFn):
    """Transformed rows of one split of one partition to a TFRecord shard; yields (split, rows)."""

    def __init__(self, directory: str, unused: set[str]) -> None:
        self._directory, self._unused = directory, unused

    def process(self, element: tuple[pa.RecordBatch, Any]) -> Iterator[tuple[str, int]]:
        """Writes the shard; a retry writes the same file again."""
        from preprocessing.sources.tfrecord_reader import (
            write_examples,  # TensorFlow, only where it is needed
        )

        batch, _ = element
        place = batch.column(batch.schema.get_field_index(examples.PLACE)).flatten()
        split, partition = place[0].as_py(), place[1].as_py()
        own = examples.TRAIN_FIELDS if split == splits.TRAIN else examples.QUERY_FIELDS
        drop = {*examples.TRAIN_FIELDS, *examples.QUERY_FIELDS, examples.PLACE} - set(own)
        drop |= self._unused
        names = [n for n in batch.schema.names if n not in drop]
        kept = pa.RecordBatch.from_arrays(
            [batch.column(batch.schema.get_field_index(n)) for n in names], names
        )
        name = ingest.SPLITS[split]
        path = FileSystems.join(self._directory, name, f"part-{partition:05d}.tfrecord")
        sizes = write_examples(path, kept)
        record_blocks.write(path, sizes)
        yield name, len(sizes)


class ItemRows(beam.DoFn):
    """Raw rows of the catalogue by number of their record batch."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, number: int) -> Iterator[pa.RecordBatch]:
        """Yields the batch."""
        yield from read_batches(self._path, [number])


class WriteItems(beam.DoFn):
    """Transformed items to Parquet, a file a batch, named by the first row; yields the batch for later combining."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, element: tuple[pa.RecordBatch, Any]) -> Iterator[pa.RecordBatch]:
        """Writes the file; a retry writes the same again."""
        batch, _ = element
        first = batch.column(batch.schema.get_field_index("row")).flatten()[0].as_py()
        path = FileSystems.join(self._directory, f"from-{first:012d}.parquet")
        with FileSystems.create(path) as out:
            pq.write_table(pa.Table.from_batches([batch]), out)
        yield batch


def _log(element: Group) -> pa.Table:
    table = read_pieces(element[1])
    assert table is not None  # a partition exists because it has rows
    return table


def _write_pairs(part: examples.Partition, train: NDArray[Any], path: str) -> None:
    local, item, time = part.training_users, part.item[train], part.time[train]
    order = np.lexsort((time, item, local))
    start, size = splits.runs(local[order] * (int(item.max(initial=0)) + 1) + item[order])
    last = order[start + size - 1]
    table = pa.table(
        {"user": local[last], "item": item[last], "events": size, "last": time[last] // 1_000_000}
    )
    with FileSystems.create(path) as out:
        pq.write_table(table, out)
