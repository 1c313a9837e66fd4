"""Reads tables as Arrow record batches: CSV, Parquet, TFRecord of ``tf.train.Example``, BigQuery.

A table is cut in units of work (a file, or a row group of a Parquet file); a worker reads a unit batch by batch, so
that memory does not grow with the file.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from preprocessing import bigquery
from preprocessing.config import TableConfig
from preprocessing.errors import LongtailError
from preprocessing.row_outcomes import RowOutcomes, Rows

_ROWS_PER_BYTE = {"csv": 1 / 40, "tfrecord": 1 / 80}
_PEEK_ROWS = 64


@dataclass(frozen=True)
class Unit:
    """A piece of a table that one worker reads."""

    table: TableConfig
    path: str
    row_group: int | None = None
    ordinal: int = 0
    first_row: int = 0
    """Rows of the file before the row group."""


def find_files(table: TableConfig) -> list[str]:
    """The files of a table, sorted.

    Raises:
      LongtailError: nothing matches.
    """
    try:
        found = [
            meta.path for match in FileSystems.match([table.path]) for meta in match.metadata_list
        ]
    except Exception as error:
        raise LongtailError(f"cannot look for {table.path}: {error}") from error
    if not found:
        raise LongtailError(
            f"no file matches {table.path}: give an existing file or pattern in the 'data' section"
        )
    return sorted(found)


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
    if table.resolved_format == "bigquery":
        names, rows = bigquery.describe(table.path)
        _require(columns, names, table.path)
        return [Unit(table, table.path)], rows
    units: list[Unit] = []
    rows = 0
    for path in find_files(table):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            is_empty = not stream.read(1)
        if is_empty:
            raise LongtailError(
                f"{path} is empty: expected {table.resolved_format} with columns {sorted(set(columns))}"
            )
        if table.resolved_format == "parquet":
            with _parquet(path) as footer:
                _require(columns, footer.schema_arrow.names, path)
                groups = range(footer.num_row_groups)
                rows += footer.metadata.num_rows
                first = 0
                for group in groups:
                    units.append(Unit(table, path, group, len(units), first))
                    first += footer.metadata.row_group(group).num_rows
        else:
            names = _peek(table, path)
            _require(columns, names, path)
            units.append(Unit(table, path, None, len(units)))
            size_in_bytes = FileSystems.match([path])[0].metadata_list[0].size_in_bytes
            rows += math.ceil(size_in_bytes * _ROWS_PER_BYTE[table.resolved_format])
    if rows == 0:
        raise LongtailError(f"{table.path} holds no rows: expected at least one")
    return units, rows


def read_unit(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    """The rows of a unit with the wanted columns; text formats give strings.

    Rows of a CSV file with too few or too many fields are told to ``outcomes``.
    """
    number = unit.first_row
    for batch in _batches(unit, columns, batch_rows, outcomes):
        yield Rows.following(batch, unit.path, unit.ordinal, number)
        number += batch.num_rows


def _batches(
    unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[pa.RecordBatch]:
    if unit.table.resolved_format == "bigquery":
        yield from bigquery.read(unit.path, columns)
    elif unit.table.resolved_format == "parquet":
        groups = None if unit.row_group is None else [unit.row_group]
        with _parquet(unit.path) as file:
            yield from file.iter_batches(batch_rows, row_groups=groups, columns=columns)
    elif unit.table.resolved_format == "tfrecord":
        from preprocessing import tfrecords  # TensorFlow, only where it is needed

        yield from tfrecords.read_examples(unit.path, columns, batch_rows)
    else:
        yield from _csv(unit.table, unit.path, columns, outcomes)


@contextmanager
def _parquet(path: str) -> Iterator[pq.ParquetFile]:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        try:
            file = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise LongtailError(
                f"{path} is not a Parquet file ({error}): set 'format' or give the right file"
            ) from error
        yield file


def _csv(
    table: TableConfig, path: str, columns: list[str], outcomes: RowOutcomes
) -> Iterator[pa.RecordBatch]:
    def set_aside(row: Any) -> str:
        outcomes.malformed(0, row.number or 0, {"source": path}, row.text or "")
        return "skip"

    with FileSystems.open(path) as stream:
        names = _header(table, path)
        try:
            yield from pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(block_size=4 << 20),
                parse_options=pa.csv.ParseOptions(
                    delimiter=table.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=set_aside,
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=columns,
                    column_types={name: pa.string() for name in names},
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
        except pa.ArrowInvalid as error:
            raise LongtailError(
                f"{path} cannot be read as CSV: {' '.join(str(error).split())}"
            ) from error


def _header(table: TableConfig, path: str) -> list[str]:
    with FileSystems.open(path) as stream:
        start = stream.read(1 << 16)
    line = start.splitlines()[0] if start else b""
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], delimiter=table.delimiter), [])
    except UnicodeDecodeError as error:
        raise LongtailError(
            f"{path} is not text: expected CSV in UTF-8 with a header line"
        ) from error
    if not names:
        raise LongtailError(
            f"{path} has no header line: expected names separated by '{table.delimiter}'"
        )
    return names


def _peek(table: TableConfig, path: str) -> list[str]:
    if table.resolved_format == "tfrecord":
        from preprocessing import tfrecords  # TensorFlow, only where it is needed

        return tfrecords.feature_names(path, _PEEK_ROWS)
    return _header(table, path)


def _require(columns: Iterable[str], present: Iterable[str], path: str) -> None:
    available = list(present)
    for column in sorted(set(columns)):
        if column not in available:
            close = difflib.get_close_matches(column, available, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise LongtailError(
                f"{path}: expected column '{column}', received {', '.join(available)}{hint}"
            )
