"""Tables of BigQuery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from preprocessing.sources.formats.base import Format, Unit, require
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig


class BigQuery(Format):
    """See ``bigquery_reader``."""

    name: ClassVar[str] = "bigquery"
    in_files: ClassVar[bool] = False
    summary: ClassVar[str] = "a BigQuery table; `path` is `project.dataset.table`"

    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """One unit."""
        from preprocessing.sources import bigquery_reader

        names, rows = bigquery_reader.describe(table.path)
        require(columns, names, table.path)
        return [Unit(table, table.path)], rows

    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """Of the table's description."""
        from preprocessing.sources import bigquery_reader

        return list(bigquery_reader.describe(table.path)[0])

    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """Page by page."""
        from preprocessing.sources import bigquery_reader

        number = 0
        for batch in bigquery_reader.read(unit.path, columns):
            yield Rows.following(batch, unit.path, unit.ordinal, number)
            number += batch.num_rows

    def state(self, table: TableConfig) -> list[Any]:
        """Rows and the time of change."""
        from preprocessing.sources import bigquery_reader

        return [table.path, *bigquery_reader.state(table.path)]
