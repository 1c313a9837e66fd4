"""Delimited text: commas, tabs or any other delimiter, with a header line or with names from the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from preprocessing.base.errors import LongtailError
from preprocessing.sources.formats.base import Unit, require
from preprocessing.sources.formats.text import TextFormat, compressed_too
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.sources.delimited import Dialect
    from preprocessing.table_config import TableConfig

_TABS = compressed_too(".tsv", ".tab")


class Csv(TextFormat):
    """See ``delimited``."""

    name: ClassVar[str] = "csv"
    endings: ClassVar[tuple[str, ...]] = (*compressed_too(".csv"), *_TABS, *compressed_too(".dat"))
    options: ClassVar[frozenset[str]] = frozenset(
        {"delimiter", "columns", "encoding", "quoted_line_breaks"}
    )
    bytes_per_row: ClassVar[int] = 40
    summary: ClassVar[str] = (
        "delimited text with a header line, or with `columns`; the delimiter is a comma, in `.tsv` and `.tab` a tab, "
        "or `delimiter`"
    )

    def check(self, table: TableConfig) -> None:
        """Refuse line breaks within quotes where nothing is quoted."""
        super().check(table)
        if table.quoted_line_breaks and len(table.delimiter or ",") > 1:
            raise ValueError(
                f"quoted_line_breaks needs quotes, and with a delimiter of several characters ('{table.delimiter}') "
                "there are none: leave one of them out"
            )

    def dialect(self, table: TableConfig, path: str) -> Dialect:
        """How a file of the table is written."""
        from preprocessing.sources.delimited import Dialect

        delimiter = table.delimiter or ("\t" if path.endswith(_TABS) else ",")
        return Dialect(
            delimiter=delimiter,
            quotes=len(delimiter) == 1,
            line_breaks=table.quoted_line_breaks,
            names=None if table.columns is None else tuple(table.columns),
        )

    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """Reads the header lines."""
        from preprocessing.sources import delimited
        from preprocessing.sources.text_stream import opened_text

        for path in files:
            dialect = self.dialect(table, path)
            with opened_text(path, table.encoding) as stream:
                names = delimited.first_line(stream, dialect, path)
            if dialect.names == tuple(names):
                raise LongtailError(
                    f"{path}: expected data in line 1, since 'columns' names the columns, received these names: "
                    "leave 'columns' out, or delete the line"
                )
            require(columns, dialect.names or names, path)
        units = [Unit(table, path, at) for at, path in enumerate(files)]
        return units, sum(self.estimate(path) for path in files)

    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """Of the first header line, or of the configuration."""
        from preprocessing.sources import delimited
        from preprocessing.sources.text_stream import opened_text

        dialect = self.dialect(table, files[0])
        with opened_text(files[0], table.encoding) as stream:
            return list(dialect.names or delimited.first_line(stream, dialect, files[0]))

    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """Batch by batch."""
        from preprocessing.sources import delimited
        from preprocessing.sources.text_stream import opened_text

        with opened_text(unit.path, unit.table.encoding) as stream:
            yield from delimited.read(
                stream,
                self.dialect(unit.table, unit.path),
                (unit.path, unit.ordinal),
                columns,
                batch_rows,
                outcomes,
            )
