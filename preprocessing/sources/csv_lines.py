"""Cuts a block of CSV text into records, each judged by itself: a broken line never changes its neighbours.

A record is a line. With ``line_breaks`` a quoted value may go on over several lines; one that does not end, or ends in
something that is no record, leaves its first line broken, and reading goes on with the line after it.

The rule for quotes is that of RFC 4180, wider in one point: a quote within an unquoted value is itself (``5" disc``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from preprocessing.sources import text_rows

LONGEST_RECORD, MOST_LINES = 1 << 16, 1_000
"""Bytes and lines that a record of several lines may have: more is a quote that was never closed."""
NUL, RETURN = "a NUL byte", "a carriage return within the line"
RAGGED = "expected {} fields, one a column, received {}"
TOO_LONG = "longer than {:,} bytes"
_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_Ints = NDArray[np.int64]


class Malformed(Exception):
    """What is wrong with a record."""


class Unclosed(Malformed):
    """A quoted value has not ended."""


@dataclass
class Records:
    """The records of a block; each array has an entry a line [n]."""

    start: _Ints
    end: _Ints
    """Bytes of each line, without its line end."""
    plain: NDArray[np.bool_]
    """Lines that are a whole record as they stand."""
    used: int
    """Bytes of the block that were judged; the next block is needed for the rest."""
    rewritten: dict[int, bytes] = field(default_factory=dict)
    """Whole records that stand otherwise in the text, by their first line."""
    broken: dict[int, str] = field(default_factory=dict)
    """What is wrong with a line."""

    @property
    def is_whole(self) -> NDArray[np.bool_]:
        """Whether a whole record begins with the line."""
        whole = self.plain.copy()
        whole[list(self.rewritten)] = True
        return whole

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether a record begins with the line, whole or broken."""
        first = self.is_whole
        first[list(self.broken)] = True
        return first

    def joined(self, block: bytes) -> bytes:
        """The text of the whole records."""
        if self.plain.all() and self.used == len(block):
            return block
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.plain.astype(np.int8), [0]])))
        runs = {
            first: block[int(self.start[first]) : int(self.end[last - 1])]
            for first, last in edges.reshape(-1, 2).tolist()
        }
        return b"\n".join(text for _, text in sorted({**runs, **self.rewritten}.items())) + b"\n"


def records(
    block: bytes, delimiter: bytes, fields: int, *, line_breaks: bool, is_last: bool
) -> Records:
    """Judge the lines of a block.

    Args:
      block: text that ends with a line end.
      delimiter: one byte.
      fields: that a record has.
      line_breaks: whether quoted values may hold them.
      is_last: whether nothing follows.
    """
    text = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(text == _NEWLINE)
    start = np.concatenate([[0], newlines[:-1] + 1])
    end = newlines - ((text[newlines - 1] == _RETURN) & (newlines > start))
    found, strict = _shape(block, text, delimiter, start, end)
    long = end - start > text_rows.LONGEST_LINE
    odd = long | ~strict | (found != fields)
    for byte in (0, _RETURN):
        odd |= _holds(block, text, byte, start, end)
    blank = start == end
    done = Records(start, end, ~odd & ~blank, len(block))
    past = 0  # lines before this one are judged
    for line in np.flatnonzero(odd & ~blank).tolist():
        if line >= past:
            past = _judge(done, line, block, delimiter, fields, line_breaks, is_last)
            if past == line:
                return _before(done, line)
            done.plain[line:past] = False
    return done


def _before(done: Records, line: int) -> Records:
    """Without a line that goes on in the next block, and those after it."""
    kept = slice(None, line)
    return Records(
        done.start[kept],
        done.end[kept],
        done.plain[kept],
        int(done.start[line]),
        done.rewritten,
        done.broken,
    )


def cut(record: bytes, delimiter: bytes) -> list[bytes]:
    """The values of a record.

    Raises:
      Malformed: text follows a closing quote; ``Unclosed``: the last quoted value does not end.
    """
    values, at = [], 0
    while True:
        if record[at : at + 1] == b'"':
            value, at = _quoted(record, at + 1)
            if at < len(record) and record[at : at + 1] != delimiter:
                raise Malformed("text after a closing quote")
        else:
            stop = record.find(delimiter, at)
            stop = len(record) if stop < 0 else stop
            value, at = record[at:stop], stop
        values.append(value)
        if at >= len(record):
            return values
        at += 1


def _shape(
    block: bytes, text: NDArray[np.uint8], delimiter: bytes, start: _Ints, end: _Ints
) -> tuple[_Ints, NDArray[np.bool_]]:
    """Fields of each line, and whether its quotes are as RFC 4180 has them (only then the fields are right)."""
    delimiters = np.flatnonzero(text == delimiter[0])
    strict = np.ones(len(start), np.bool_)
    if b'"' in block:
        quotes = np.flatnonzero(text == _QUOTE)
        first = np.searchsorted(quotes, start)
        line = np.searchsorted(start, quotes, side="right") - 1
        opens = (np.arange(len(quotes)) - first[line]) % 2 == 0
        before, after = text[np.maximum(quotes - 1, 0)], text[quotes + 1]
        fits = np.where(
            opens,
            (quotes == start[line]) | (before == delimiter[0]) | (before == _QUOTE),
            (quotes + 1 == end[line]) | (after == delimiter[0]) | (after == _QUOTE),
        )
        strict[line[~fits]] = False
        strict &= np.diff(np.append(first, len(quotes))) % 2 == 0
        # Outside of quotes are the delimiters that an even number of their line's quotes stands before.
        of = np.searchsorted(start, delimiters, side="right") - 1
        delimiters = delimiters[(np.searchsorted(quotes, delimiters) - first[of]) % 2 == 0]
    counts = np.searchsorted(delimiters, end) - np.searchsorted(delimiters, start)
    return counts.astype(np.int64) + 1, strict


def _holds(
    block: bytes, text: NDArray[np.uint8], byte: int, start: _Ints, end: _Ints
) -> NDArray[np.bool_]:
    """Which lines hold a byte."""
    if byte not in block:
        return np.zeros(len(start), np.bool_)
    at = np.flatnonzero(text == byte)
    found: NDArray[np.bool_] = np.searchsorted(at, end) > np.searchsorted(at, start)
    return found


def _judge(
    done: Records,
    line: int,
    block: bytes,
    delimiter: bytes,
    fields: int,
    line_breaks: bool,
    is_last: bool,
) -> int:
    """Looks at one line, and with line breaks at those that go on with it.

    Returns:
      The line after the record; the line itself where the next block is needed.
    """
    start, last = int(done.start[line]), line
    while True:
        record = block[start : int(done.end[last])]
        try:
            values = _values(record, delimiter, fields, line_breaks)
        except Unclosed as fault:
            last += 1
            if not line_breaks or len(record) > LONGEST_RECORD or last == line + MOST_LINES:
                done.broken[line] = str(fault)
                return line + 1
            if last == len(done.start):
                if not is_last:
                    return line
                done.broken[line] = str(fault)
                return line + 1
        except Malformed as fault:
            done.broken[line] = str(fault)
            return line + 1
        else:
            quoted = (b'"' + value.replace(b'"', b'""') + b'"' for value in values)
            done.rewritten[line] = delimiter.join(quoted)
            return last + 1


def _values(record: bytes, delimiter: bytes, fields: int, line_breaks: bool) -> list[bytes]:
    if len(record) > text_rows.LONGEST_LINE:
        raise Malformed(TOO_LONG.format(text_rows.LONGEST_LINE))
    if b"\0" in record:
        raise Malformed(NUL)
    values = cut(record, delimiter)
    if len(values) != fields:
        raise Malformed(RAGGED.format(fields, len(values)))
    if b"\r" in record and not line_breaks:
        raise Malformed(RETURN)
    return values


def _quoted(record: bytes, at: int) -> tuple[bytes, int]:
    """A quoted value from after its opening quote, and the place after its closing one."""
    parts = []
    while True:
        stop = record.find(b'"', at)
        if stop < 0:
            raise Unclosed("a quote that is not closed")
        parts.append(record[at:stop])
        if record[stop + 1 : stop + 2] != b'"':
            return b'"'.join(parts), stop + 1
        at = stop + 2
