"""Reads tables of every format as Arrow record batches.

A table is cut in units of work (a file, or a row group of a Parquet file); a worker reads a unit batch by batch, so
that memory does not grow with the file. What a format is stands in ``formats``, one file each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import is_folder
from preprocessing.config import TableConfig
from preprocessing.sources import input_files
from preprocessing.sources.formats.base import Unit
from preprocessing.sources.formats.registry import FORMATS, check_options, format_of
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

__all__ = ["Unit", "column_names", "plan", "read_unit", "state"]


def plan(table: TableConfig, columns: Iterable[str]) -> tuple[list[Unit], int]:
    """Check a table before any work and cut it in units.

    Args:
      table: where it lies.
      columns: the columns that will be read.

    Returns:
      The units and the (for text formats estimated) number of rows.

    Raises:
      LongtailError: a file is missing, empty or not what its format says, a column is missing, or an option is none
        of the format.
    """
    columns = sorted(set(columns))
    files = input_files.find_files(table.path) if table.in_files else []
    if files:
        table = table.model_copy(update={"format": _format(table, files)})
    name = table.resolved_format or ""
    try:
        check_options(table, name)
    except ValueError as error:
        raise LongtailError(f"{table.path}: {error}") from error
    filled = [path for path in files if not _is_empty(path)]
    if files and not filled:
        raise LongtailError(
            f"{files[0]} is empty: expected {name} with columns {', '.join(columns)}"
        )
    units, rows = FORMATS[name].plan(table, filled, columns)
    if rows == 0:
        raise LongtailError(f"{table.path} holds no rows: expected at least one")
    return units, rows


def column_names(table: TableConfig) -> list[str]:
    """The columns that a table has, by its first file; of records those of the first ones.

    Raises:
      LongtailError: a file is missing, empty or not what its format says.
    """
    files = input_files.find_files(table.path) if table.in_files else []
    if files:
        table = table.model_copy(update={"format": _format(table, files)})
    filled = [path for path in files if not _is_empty(path)]
    if files and not filled:
        raise LongtailError(f"{files[0]} is empty: expected a table with at least one row")
    return FORMATS[table.resolved_format or ""].columns(table, filled)


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
        form = FORMATS[unit.table.resolved_format or ""]
        yield from form.read(unit, columns, batch_rows, outcomes)


def state(table: TableConfig) -> list[Any]:
    """What tells a changed table without reading it: names, sizes and times of change.

    Raises:
      LongtailError: there is no such table.
    """
    if table.in_files:
        return [input_files.state(path) for path in input_files.find_files(table.path)]
    return FORMATS[table.resolved_format or ""].state(table)


def _format(table: TableConfig, files: list[str]) -> str:
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
