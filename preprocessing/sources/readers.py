"""Reads tables as Arrow record batches: CSV, Parquet, TFRecord of ``tf.train.Example``, BigQuery.

A table is cut in units of work (a file, or a row group of a Parquet file); a worker reads a unit batch by batch, so
that memory does not grow with the file.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import COMPRESSED, is_folder
from preprocessing.config import Format, TableConfig, format_of
from preprocessing.sources import bigquery_reader as bigquery
from preprocessing.sources import csv_reader, input_files, parquet_reader
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

_PEEK_ROWS = 64
_ROWS_PER_BYTE = {"csv": 1 / 40, "tfrecord": 1 / 80}
_PACKED = 5
"""By how much compressed text is smaller, for an estimate."""


@dataclass(frozen=True)
class Unit:
    """A piece of a table that one worker reads."""

    table: TableConfig
    path: str
    row_group: int | None = None
    ordinal: int = 0
    first_row: int = 0
    """Rows of the file before the row group."""


def plan(table: TableConfig, columns: Iterable[str]) -> tuple[list[Unit], int]:
    """Check a table before any work and cut it in units.

    Args:
      table: where it lies.
      columns: the columns that will be read.

    Returns:
      The units and the (for text formats estimated) number of rows.

    Raises:
      LongtailError: a file is missing, empty or not what its format says, or a column is missing.
    """
    columns = sorted(set(columns))
    if table.resolved_format == "bigquery":
        names, rows = bigquery.describe(table.path)
        _require(columns, names, table.path)
        return [Unit(table, table.path)], rows
    files = input_files.find_files(table.path)
    table = table.model_copy(update={"format": _format(table, files)})
    filled = [path for path in files if not _is_empty(path)]
    if not filled:
        raise LongtailError(
            f"{files[0]} is empty: expected {table.format} with columns {', '.join(columns)}"
        )
    units: list[Unit] = []
    rows = 0
    if table.format == "parquet":
        for path, sizes in parquet_reader.row_groups(filled, columns, _require).items():
            first = 0
            for group, size in enumerate(sizes):
                units.append(Unit(table, path, group, len(units), first))
                first += size
            rows += first
    else:
        for path in filled:
            _require(columns, _names(table, path), path)
            units.append(Unit(table, path, None, len(units)))
            rows += _estimate(table, path)
    if rows == 0:
        raise LongtailError(f"{table.path} holds no rows: expected at least one")
    return units, rows


def column_names(table: TableConfig) -> list[str]:
    """The columns that a table has, as its first file names them.

    Raises:
      LongtailError: a file is missing, empty or not what its format says.
    """
    if table.resolved_format == "bigquery":
        return list(bigquery.describe(table.path)[0])
    files = input_files.find_files(table.path)
    table = table.model_copy(update={"format": _format(table, files)})
    filled = [path for path in files if not _is_empty(path)]
    if not filled:
        raise LongtailError(f"{files[0]} is empty: expected {table.format} with columns")
    if table.format == "parquet":
        with parquet_reader.opened(filled[0]) as file:
            return list(file.schema_arrow.names)
    return _names(table, filled[0])


def read_unit(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    """The rows of a unit with the wanted columns; text formats give strings.

    Args:
      unit: from ``plan``.
      columns: the wanted ones.
      batch_rows: rows at once.
      outcomes: takes the rows that cannot be cut into columns.

    Raises:
      LongtailError: the file is not what its format says, or cannot be read.
    """
    with input_files.reading(unit.path):
        yield from _READERS[unit.table.resolved_format or "csv"](
            unit, columns, batch_rows, outcomes
        )


def _csv(unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes) -> Iterator[Rows]:
    with input_files.opened(unit.path) as stream:
        place = (unit.path, unit.ordinal)
        yield from csv_reader.read(stream, unit.table, place, columns, batch_rows, outcomes)


def _parquet(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    number = unit.first_row
    with parquet_reader.opened(unit.path) as file:
        groups = None if unit.row_group is None else [unit.row_group]
        for batch in file.iter_batches(batch_rows, row_groups=groups, columns=columns):
            yield Rows.following(batch, unit.path, unit.ordinal, number)
            number += batch.num_rows


def _tfrecord(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    from preprocessing.sources import tfrecord_reader as tfrecords

    yield from tfrecords.read_examples(unit.path, unit.ordinal, columns, batch_rows, outcomes)


def _bigquery(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    number = 0
    for batch in bigquery.read(unit.path, columns):
        yield Rows.following(batch, unit.path, unit.ordinal, number)
        number += batch.num_rows


_READERS: dict[Format, Callable[[Unit, list[str], int, RowOutcomes], Iterator[Rows]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "tfrecord": _tfrecord,
    "bigquery": _bigquery,
}


def _format(table: TableConfig, files: list[str]) -> Format:
    """Of a folder the ending of its files counts, and of anything else its own if it has one."""
    known = {format_of(path) for path in files}
    by_files = known.pop() if len(known) == 1 else None
    own = format_of(table.path)
    chosen = table.format or ((by_files or own) if is_folder(table.path) else (own or by_files))
    if chosen is None:
        raise LongtailError(
            f"cannot tell the format of the files in {table.path} (e.g. {os.path.basename(files[0])}): set 'format'"
        )
    return chosen


def _is_empty(path: str) -> bool:
    with input_files.raw(path) as stream, input_files.reading(path):
        return not stream.read(1)


def _estimate(table: TableConfig, path: str) -> int:
    size = input_files.state(path)[1]
    assert isinstance(size, int)
    packed = _PACKED if path.endswith(COMPRESSED) else 1
    return math.ceil(size * packed * _ROWS_PER_BYTE[table.format or "csv"])


def _names(table: TableConfig, path: str) -> list[str]:
    if table.format == "tfrecord":
        from preprocessing.sources import tfrecord_reader as tfrecords

        return tfrecords.feature_names(path, _PEEK_ROWS)
    with input_files.opened(path) as stream:
        return csv_reader.header(stream, table, path)


def _require(columns: Iterable[str], present: Iterable[str], path: str) -> None:
    available = list(present)
    for column in columns:
        if column not in available:
            close = difflib.get_close_matches(column, available, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise LongtailError(
                f"{path}: expected column '{column}', received {', '.join(available)}{hint}"
            )
        if available.count(column) > 1:
            raise LongtailError(
                f"{path}: expected one column '{column}', received {available.count(column)} of that name"
            )
