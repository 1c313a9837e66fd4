"""What Beam workers do with a unit of a source: read it, check its rows, divide them; every row is accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from preprocessing.beam.shuffle import PartitionFile, PartitionWriter, read_pieces
from preprocessing.config import DataSections
from preprocessing.features import Side
from preprocessing.log import events, ingest
from preprocessing.sources import key_tables as catalogue
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.readers import Unit, read_unit
from preprocessing.sources.row_outcomes import ITEMS, LOG, USERS, RowOutcomes
from preprocessing.sources.scalars import keys, reading
from preprocessing.transform.item_counts import LogStatistics

STATISTICS, OUTCOMES = "statistics", "outcomes"
SOURCE = {Side.ITEM: ITEMS, Side.QUERY: USERS}


class ReadTable(beam.DoFn):
    """A unit of the item or user table to one canonical Arrow file; users are divided as the log is."""

    def __init__(self, config: DataSections, side: Side, directory: str, partitions: int) -> None:
        self._config, self._side = config, side
        self._directory, self._partitions = directory, partitions

    def process(self, unit: Unit) -> Iterator[Any]:
        """Yields (partition, piece), and the tally by tag."""
        data, features = self._config.data, self._config.feature_list
        columns = catalogue.side_columns(data, self._side, features)
        outcomes = RowOutcomes(SOURCE[self._side])
        with PartitionWriter(self._directory, self._partitions, unit.ordinal) as writer:
            for rows in read_unit(unit, columns, self._config.preprocess.batch_rows, outcomes):
                kept = catalogue.canonical(rows, data, self._side, features, outcomes)
                writer.write(
                    kept,
                    ingest.user_hash(kept.column(0))
                    if self._partitions > 1
                    else np.zeros(kept.num_rows, np.uint64),
                )
        yield from writer.pieces
        yield TaggedOutput(OUTCOMES, outcomes)


class WithdrawRepeated(beam.DoFn):
    """A partition of the item or user table to the tally of the rows whose key an earlier row has."""

    def __init__(self, side: Side, paths: Mapping[int, str]) -> None:
        self._side, self._paths = side, paths

    def process(self, element: tuple[int, Iterable[PartitionFile]]) -> Iterator[RowOutcomes]:
        """Yields what changes in the source's tally."""
        key = catalogue.KEY[self._side]
        table = read_pieces(list(element[1]), (key, *catalogue.PLACE))
        outcomes = RowOutcomes(SOURCE[self._side])
        if table is not None:
            catalogue.withdraw_repeated(table, key, self._paths, outcomes)
        yield outcomes


class CollectItems(beam.DoFn):
    """The distinct item keys of a unit of the log, where there is no item table."""

    def __init__(self, config: DataSections) -> None:
        self._config = config

    def process(self, unit: Unit) -> Iterator[tuple[int, list[str], int]]:
        """Yields the unit's number, its keys by first occurrence and the rows that were read."""
        data = self._config.data
        column, more = data.columns.item, events.columns_of(data)
        found: dict[str, None] = {}
        outcomes = RowOutcomes(LOG)
        columns = list(dict.fromkeys([column, *more]))
        for rows in read_unit(unit, columns, self._config.preprocess.batch_rows, outcomes):
            outcomes.rows += rows.batch.num_rows
            listed = rows.take(np.flatnonzero(events.is_listed(rows, data))) if more else rows
            with reading(rows.path, column, "key of an item"):
                good, _ = keys(listed.batch.column(0))
            found.update(dict.fromkeys(good.drop_null().unique().to_pylist()))
        yield unit.ordinal, list(found), outcomes.rows


class IngestLog(beam.DoFn):
    """A unit of the log to checked interactions, divided by user."""

    def __init__(
        self, config: DataSections, catalogue_path: str, directory: str, partitions: int
    ) -> None:
        self._config, self._catalogue, self._directory = config, catalogue_path, directory
        self._partitions = partitions

    def setup(self) -> None:
        """Loads the keys of the catalogue: the one thing that a worker holds whole."""
        with FileSystems.open(
            self._catalogue, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            items = pq.read_table(stream, columns=["item"])["item"]
        self._items = KeyRows(items.combine_chunks())

    def process(self, unit: Unit) -> Iterator[Any]:
        """Yields (partition, piece), and by tag the statistics and the tally."""
        statistics, outcomes = LogStatistics(), RowOutcomes(LOG)
        with PartitionWriter(self._directory, self._partitions, unit.ordinal) as writer:
            columns = ingest.source_columns(self._config)
            for rows in read_unit(unit, columns, self._config.preprocess.batch_rows, outcomes):
                interactions = ingest.canonical(rows, self._config, self._items, outcomes)
                self._count(statistics, interactions)
                writer.write(interactions, ingest.user_hash(interactions.column(0)))
        yield from writer.pieces
        yield TaggedOutput(STATISTICS, statistics)
        yield TaggedOutput(OUTCOMES, outcomes)

    def _count(self, statistics: LogStatistics, interactions: pa.RecordBatch) -> None:
        refused = interactions.column(interactions.schema.get_field_index("refused"))
        counted = interactions.filter(pc.invert(refused))
        statistics.counters["refused"] += interactions.num_rows - counted.num_rows
        statistics.counters["interactions"] += counted.num_rows
        statistics.times.add(np.asarray(counted.column(2)))
