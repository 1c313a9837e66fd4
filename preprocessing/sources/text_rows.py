"""Reads text in blocks of whole lines: a format's ``Cutter`` judges the lines, here they get their numbers.

Memory does not grow with the file, and nothing depends on where a block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.sources.readable_text import as_text
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.text_stream import TextStream

BLOCK = 4 << 20
LONGEST_LINE = 16 << 20
"""Bytes; a longer line is no row."""
_HEAD = 1 << 16
_SHOWN = 300


@dataclass(frozen=True)
class Cut:
    """What the lines [n] of a block are."""

    is_first: NDArray[np.bool_]
    """Whether a row begins with the line, whole or broken."""
    is_whole: NDArray[np.bool_]
    """Whether a row that can be read does."""
    batch: pa.RecordBatch | None
    """The wanted columns of those rows, None where there are none."""
    used: int
    """Bytes of the block that were judged; the next block is needed for the rest."""
    broken: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """What is wrong with a line, and its text."""


Cutter = Callable[[bytes, bool, str], Cut]
"""From a block of whole lines, whether nothing follows, and the place of its first line, for errors."""


def read(
    stream: TextStream,
    cut: Cutter,
    place: tuple[str, int],
    batch_rows: int,
    outcomes: RowOutcomes,
    *,
    header: Callable[[bytes], object] | None = None,
    block_size: int = BLOCK,
) -> Iterator[Rows]:
    """The rows of a file.

    Args:
      stream: its text.
      cut: judges lines.
      place: the file's path and its number among the units of the source.
      batch_rows: rows at once at most.
      outcomes: takes the rows that are malformed.
      header: takes the first line, which is no row then; None where it is one.
      block_size: bytes that are read at once; the result does not depend on it.
    """
    line, number, rest = 1, 0, b""
    for block, is_last in blocks(stream, block_size):
        text = rest + block
        if header is not None and line == 1:
            first, text = _divided(text)
            header(first)
            line = 2
        if not text:
            continue
        found = cut(text, is_last, f"{place[0]}, line {line}")
        numbers = np.cumsum(found.is_first) - 1 + number
        lines = np.arange(line, line + len(numbers))
        for at, (detail, shown) in found.broken.items():
            row = {"source": place[0], "row": int(numbers[at]) + 1, "line": int(lines[at])}
            written = shown[:_SHOWN].decode("utf-8", "replace")
            outcomes.malformed(place[1], int(numbers[at]), {**row, "detail": detail}, written)
        whole = np.flatnonzero(found.is_whole)
        if found.batch is not None and len(whole):
            rows = Rows(found.batch, *place, numbers[whole], lines[whole])
            yield from as_text(rows, outcomes, stream.encoding).in_batches(batch_rows)
        number += int(found.is_first.sum())
        line += len(numbers)
        rest = text[found.used :]


def first_line(stream: TextStream) -> bytes:
    """The first line without its end; empty where there is none."""
    block, _ = next(blocks(stream, _HEAD), (b"\n", True))
    return _divided(block)[0]


def _divided(text: bytes) -> tuple[bytes, bytes]:
    """The first line without its end, and what follows."""
    line, _, rest = text.partition(b"\n")
    return line.removesuffix(b"\r"), rest


def blocks(stream: TextStream, size: int) -> Iterator[tuple[bytes, bool]]:
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
        kept = read[cut : cut + max(0, LONGEST_LINE + 1 - waiting)]
        rest.append(kept)
        waiting += len(kept)
        read = stream.read(size)
    if waiting:
        yield b"".join(rest) + b"\n", True
    elif not is_empty:
        yield b"", True
