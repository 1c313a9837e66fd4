"""Parquet files, a row group a unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from preprocessing.sources.formats.base import Format, Unit, require
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig


class Parquet(Format):
    """See ``parquet_reader``. The part of a unit is its row group and how many rows of the file stand before it."""

    name: ClassVar[str] = "parquet"
    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    summary: ClassVar[str] = "Parquet; the files of one table hold the same kinds of values"

    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """Reads the footers."""
        from preprocessing.sources import parquet_reader

        units: list[Unit] = []
        rows = 0
        for path, sizes in parquet_reader.row_groups(files, columns, require).items():
            first = 0
            for group, size in enumerate(sizes):
                units.append(Unit(table, path, len(units), (group, first)))
                first += size
            rows += first
        return units, rows

    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """Of the first footer."""
        from preprocessing.sources import parquet_reader

        with parquet_reader.opened(files[0]) as footer:
            return list(footer.schema_arrow.names)

    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """Batch by batch of the row group."""
        from preprocessing.sources import parquet_reader

        group, number = unit.part
        with parquet_reader.opened(unit.path) as file:
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns):
                yield Rows.following(batch, unit.path, unit.ordinal, number)
                number += batch.num_rows
