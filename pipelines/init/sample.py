"""Some rows of a table with all columns, read as preprocessing reads them, and how many rows there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.init.form import Form
from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources.readers import Unit, column_names, plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes, Rows

ROWS = 200_000
"""Of a sample at most: catalogues are mostly read whole, logs are not."""
_PLACES = 8
"""Pieces of a table, evenly from its start to its end, that a sample is taken from."""
_BATCH = 16_384


@dataclass(frozen=True)
class Sample:
    """Rows of a table.

    Attributes:
      form: of its file.
      table: the section, validated.
      rows: those that were read, all columns.
      total: rows of the table; of text files that were not read to the end an estimate.
      is_whole: whether ``rows`` are all of them.
    """

    form: Form
    table: TableConfig
    rows: pa.Table
    total: int
    is_whole: bool

    @property
    def size(self) -> str:
        """How many rows the table has; of text that was not read to the end it is an estimate."""
        is_counted = self.is_whole or self.table.resolved_format == "parquet"
        return f"{'' if is_counted else 'about '}{self.total:,} rows"

    @property
    def names(self) -> list[str]:
        """The columns in the order of the file."""
        return list(self.rows.column_names)

    def column(self, name: str) -> pa.Array:
        """One of them in one piece."""
        column = self.rows.column(name)
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def look(form: Form, limit: int = ROWS) -> Sample:
    """Read a sample.

    Args:
      form: of the file.
      limit: rows at most.

    Raises:
      LongtailError: the file cannot be read, two columns have the same name, or there is no row.
    """
    table = TableConfig.model_validate(form.section)
    names = column_names(table)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LongtailError(
            f"{form.path}: expected every column once, received twice: {', '.join(twice)}; rename one of each"
        )
    units, estimate = plan(table, names)
    step = max(1, len(units) // _PLACES)
    chosen = units[::step]
    share = limit // len(chosen) + 1
    batches: list[pa.RecordBatch] = []
    was_cut = len(chosen) < len(units)
    for unit in chosen:
        left = share
        for rows in _batches(unit, names):
            batches.append(rows.batch.slice(0, left))
            left -= rows.batch.num_rows
            if left <= 0:
                was_cut = True
                break
    found = _joined(batches, names)
    if not found.num_rows:
        raise LongtailError(f"{form.path} holds no row that can be read: expected at least one")
    return Sample(form, table, found, estimate if was_cut else found.num_rows, not was_cut)


def read_columns(sample: Sample, columns: Sequence[str], limit: int) -> tuple[pa.Table, bool]:
    """Some columns of the whole table, or of its first ``limit`` rows, and whether that is all.

    Raises:
      LongtailError: the file cannot be read.
    """
    if sample.is_whole:
        return sample.rows.select(list(columns)), True
    units, _ = plan(sample.table, columns)
    batches: list[pa.RecordBatch] = []
    count = 0
    for rows in itertools.chain.from_iterable(_batches(unit, list(columns)) for unit in units):
        batches.append(rows.batch)
        count += rows.batch.num_rows
        if count >= limit:
            return _joined(batches, list(columns)).slice(0, limit), False
    return _joined(batches, list(columns)), True


def _batches(unit: Unit, names: list[str]) -> Iterator[Rows]:
    return read_unit(unit, sorted(names), _BATCH, RowOutcomes(LOG))


def _joined(batches: list[pa.RecordBatch], names: list[str]) -> pa.Table:
    """One table; files may differ in the width of their types, so that text is the common one."""
    tables = [pa.Table.from_batches([batch]).select(names) for batch in batches if batch.num_rows]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    columns = []
    for name in names:
        pieces = [piece for table in tables for piece in table.column(name).chunks]
        types = {piece.type for piece in pieces}
        if len(types) > 1:
            pieces = [piece.cast(pa.large_string()) for piece in pieces]
        columns.append(pa.chunked_array(pieces))
    return pa.Table.from_arrays(columns, names)
