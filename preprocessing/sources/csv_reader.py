"""Reads CSV text as rows of strings: ``csv_lines`` judges each line by itself, Arrow converts those that are whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources import csv_lines
from preprocessing.sources.readable_text import as_text
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

_BLOCK, _HEAD = 4 << 20, 1 << 16
_SHOWN = 300


def header(stream: IO[bytes], table: TableConfig, path: str) -> list[str]:
    """The names in the first line.

    Raises:
      LongtailError: there is none, or the file is no text.
    """
    first, _ = next(_blocks(stream, _HEAD), (b"", True))
    return _names(first[: first.find(b"\n")], table, path)


def read(
    stream: IO[bytes],
    table: TableConfig,
    place: tuple[str, int],
    columns: list[str],
    batch_rows: int,
    outcomes: RowOutcomes,
    block_size: int = _BLOCK,
) -> Iterator[Rows]:
    """The rows of a file, of type string; empty values are null.

    Args:
      stream: bytes of the file, decompressed.
      table: delimiter, and whether quoted values may hold line breaks.
      place: the file's path and its number among the units of the source.
      columns: the wanted ones; all of them are in the header.
      batch_rows: rows at once at most.
      outcomes: takes the rows that are malformed.
      block_size: bytes that are read at once; the result does not depend on it.
    """
    names: list[str] = []
    line, number, rest = 1, 0, b""
    for block, is_last in _blocks(stream, block_size):
        text = rest + block
        if not names:
            first = text.find(b"\n") + 1
            names, text, line = _names(text[: first - 1], table, place[0]), text[first:], 2
        if not text:
            continue
        found = csv_lines.records(
            text,
            table.resolved_delimiter.encode(),
            len(names),
            line_breaks=table.quoted_line_breaks,
            is_last=is_last,
        )
        numbers = np.cumsum(found.is_first) - 1 + number
        lines = np.arange(line, line + len(numbers))
        for at, detail in found.broken.items():
            shown = text[int(found.start[at]) : int(found.end[at])][:_SHOWN]
            row = {"source": place[0], "row": int(numbers[at]) + 1, "line": int(lines[at])}
            outcomes.malformed(
                place[1],
                int(numbers[at]),
                {**row, "detail": detail},
                shown.decode("utf-8", "replace"),
            )
        whole = np.flatnonzero(found.is_whole)
        if len(whole):
            batch = _convert(found.joined(text), table, names, columns, f"{place[0]}, line {line}")
            if batch.num_rows != len(whole):
                raise LongtailError(
                    f"{place[0]}, line {line}: {len(whole):,} rows were found from there on, but "
                    f"{batch.num_rows:,} read: please report it with these lines"
                )
            rows = Rows(batch, *place, numbers[whole], lines[whole])
            yield from as_text(rows, outcomes).in_batches(batch_rows)
        number += int(found.is_first.sum())
        line += len(numbers)
        rest = text[found.used :]


def _names(line: bytes, table: TableConfig, path: str) -> list[str]:
    line = line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")
    try:
        values = csv_lines.cut(line, table.resolved_delimiter.encode()) if line.strip() else []
        names = [value.decode("utf-8") for value in values]
    except (UnicodeDecodeError, csv_lines.Malformed) as error:
        names = ["\0"] if isinstance(error, UnicodeDecodeError) else []
    if any("\0" in name for name in names):
        raise LongtailError(f"{path} is not text: expected CSV in UTF-8 with a header line")
    if not names:
        raise LongtailError(
            f"{path} has no header line: expected names separated by '{table.resolved_delimiter}' in line 1"
        )
    return names


def _blocks(stream: IO[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, and whether nothing follows; all end in a newline.

    Of a line that is too long for any row the start is kept, long enough to be seen as too long.
    """
    read = b""
    while len(read) < _HEAD and (more := stream.read(_HEAD - len(read))):
        read += more
    is_empty = not read
    old_mac = b"\r" in read[:-1] and b"\n" not in read  # as Excel for Mac once wrote, and still can
    rest: list[bytes] = []
    waiting = 0
    while read:
        if old_mac:
            read = read.replace(b"\r", b"\n")
        cut = read.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, read[:cut]]), False
            rest, waiting = [], 0
        kept = read[cut : cut + max(0, csv_lines.LONGEST_LINE + 1 - waiting)]
        rest.append(kept)
        waiting += len(kept)
        read = stream.read(size)
    if waiting:
        yield b"".join(rest) + b"\n", True
    elif not is_empty:
        yield b"", True


def _convert(
    text: bytes, table: TableConfig, names: list[str], columns: list[str], where: str
) -> pa.RecordBatch:
    """Records that are whole to columns of strings; of bytes where one of them is not UTF-8."""
    own = [str(i) for i in range(len(names))]  # names may occur twice where they are not read
    wanted = [own[names.index(column)] for column in columns]
    found = None
    for kind in (pa.string(), pa.binary()):
        try:
            found = pa.csv.read_csv(
                pa.py_buffer(text),
                read_options=pa.csv.ReadOptions(
                    block_size=len(text) + 1, column_names=own, use_threads=False
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=table.resolved_delimiter, newlines_in_values=True
                ),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(own, kind),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            break
        except pa.ArrowInvalid as error:
            if pa.types.is_binary(kind):
                raise LongtailError(
                    f"{where}: cannot be read as CSV: {' '.join(str(error).split())}"
                ) from error
    assert found is not None  # read or raised
    arrays = [found[name].combine_chunks() for name in wanted]
    return pa.RecordBatch.from_arrays(arrays, columns)
