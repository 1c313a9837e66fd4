"""Reads delimited text as rows of strings: each line is judged by itself, Arrow converts those that are whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preprocessing.base.errors import LongtailError
from preprocessing.sources import csv_lines, csv_reader, plain_fields, text_rows
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.text_rows import BLOCK, Cut
from preprocessing.sources.text_stream import TextStream


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    delimiter: str = ","
    quotes: bool = True
    """Whether values may be quoted; if not, a quote is a character like others."""
    line_breaks: bool = False
    """Whether quoted values may hold line breaks."""
    names: tuple[str, ...] | None = None
    """Of the columns; None where the first line says them."""
    suffixes: tuple[str, ...] = ()
    """What a name in the first line may end in, after a colon, without being a part of it."""


def first_line(stream: TextStream, dialect: Dialect, path: str) -> list[str]:
    """The names in the header line; where the dialect has names, the fields of the first row.

    Raises:
      LongtailError: there is no header line, or the file is no text.
    """
    return _header(text_rows.first_line(stream), dialect, path)


def read(
    stream: TextStream,
    dialect: Dialect,
    place: tuple[str, int],
    columns: list[str],
    batch_rows: int,
    outcomes: RowOutcomes,
    block_size: int = BLOCK,
) -> Iterator[Rows]:
    """The rows of a file, of type string; empty values are null.

    Args:
      stream: its text.
      dialect: how it is written.
      place: the file's path and its number among the units of the source.
      columns: the wanted ones; all of them are among the names.
      batch_rows: rows at once at most.
      outcomes: takes the rows that are malformed.
      block_size: bytes that are read at once; the result does not depend on it.
    """
    cut = _Cutter(dialect, columns, place[0])
    header = cut.name_columns if dialect.names is None else None
    yield from text_rows.read(
        stream, cut, place, batch_rows, outcomes, header=header, block_size=block_size
    )


class _Cutter:
    """Judges lines, once the names of the columns are known; see ``text_rows.Cutter``."""

    def __init__(self, dialect: Dialect, columns: list[str], path: str) -> None:
        self._dialect, self._columns, self._path = dialect, columns, path
        self._names = list(dialect.names or ())

    def name_columns(self, line: bytes) -> None:
        """By the header line."""
        self._names = _header(line, self._dialect, self._path)

    def __call__(self, block: bytes, is_last: bool, where: str) -> Cut:
        dialect, fields = self._dialect, len(self._names)
        wanted = {name: self._names.index(name) for name in self._columns}
        delimiter = dialect.delimiter.encode()
        if not dialect.quotes:
            return plain_fields.cut(block, delimiter, fields, wanted)
        found = csv_lines.records(
            block, delimiter, fields, line_breaks=dialect.line_breaks, is_last=is_last
        )
        rows, batch = int(found.is_whole.sum()), None
        if rows:
            text = found.joined(block)
            batch = csv_reader.convert(text, dialect.delimiter, fields, wanted, where)
        if batch is not None and batch.num_rows != rows:
            raise LongtailError(
                f"{where}: {rows:,} rows were found from there on, but {batch.num_rows:,} read: please report it with "
                "these lines"
            )
        broken = {
            at: (detail, block[int(found.start[at]) : int(found.end[at])])
            for at, detail in found.broken.items()
        }
        return Cut(found.is_first, found.is_whole, batch, found.used, broken)


def _header(line: bytes, dialect: Dialect, path: str) -> list[str]:
    try:
        fields = [value.decode("utf-8") for value in _cut(line, dialect)] if line.strip() else []
    except (UnicodeDecodeError, csv_lines.Malformed) as error:
        fields = ["\0"] if isinstance(error, UnicodeDecodeError) else []
    if dialect.names is not None:
        return fields
    if any("\0" in name for name in fields):
        raise LongtailError(
            f"{path} is not text, or is in another encoding: expected delimited text with a header line, in UTF-8 or "
            "with 'encoding' set"
        )
    if not fields:
        raise LongtailError(
            f"{path} has no header line: expected names separated by '{dialect.delimiter}' in line 1, or 'columns' to "
            "name the columns of a file without one"
        )
    return [_without(name, dialect.suffixes) for name in fields]


def _cut(line: bytes, dialect: Dialect) -> list[bytes]:
    delimiter = dialect.delimiter.encode()
    return csv_lines.cut(line, delimiter) if dialect.quotes else line.split(delimiter)


def _without(name: str, suffixes: tuple[str, ...]) -> str:
    before, colon, after = name.rpartition(":")
    return before if colon and after in suffixes else name
