"""Reads JSON with one object a line: each line is judged by itself, and so is each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.base.errors import LongtailError
from preprocessing.sources import text_rows
from preprocessing.sources.json_objects import (
    BOOLEAN,
    KINDS,
    LIST,
    NO_JSON,
    NUMBER,
    TEXT,
    Malformed,
    number,
    parsed,
)
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.text_rows import BLOCK, Cut
from preprocessing.sources.text_stream import TextStream

_HEAD_BYTES, _HEAD_ROWS = 1 << 16, 1_000
_SPACE = b" \t\r"
_WRITTEN = pa.large_string()
_TYPES = {TEXT: _WRITTEN, NUMBER: _WRITTEN, BOOLEAN: pa.bool_(), LIST: pa.large_list(_WRITTEN)}


def head(stream: TextStream, path: str) -> list[dict[str, Any]]:
    """The first objects of a file, as far as they can be read.

    Raises:
      LongtailError: it begins with an array, or none of its first lines is an object.
    """
    found, fault = [], ""
    block, _ = next(text_rows.blocks(stream, _HEAD_BYTES), (b"", True))
    for line in islice(
        filter(None, (each.strip(_SPACE) for each in block.split(b"\n"))), _HEAD_ROWS
    ):
        try:
            found.append(parsed(line, stream.encoding))
        except Malformed as error:
            fault = fault or str(error)
    begins_array = block.lstrip().startswith(b"[")
    if found and not (begins_array and fault.startswith(NO_JSON)):
        return found
    remedy = "'jq -c .[]' does it for an array" if begins_array else "'jq -c .' does it for objects"
    raise LongtailError(
        f"{path}: expected JSON with one object a line, received a first line that is none ({fault or 'no text'}): "
        f"write each object on a line of its own; {remedy}"
    )


def read(
    stream: TextStream,
    kinds: Mapping[str, str],
    place: tuple[str, int],
    columns: list[str],
    batch_rows: int,
    outcomes: RowOutcomes,
    block_size: int = BLOCK,
) -> Iterator[Rows]:
    """The rows of a file: text and numbers as text, by their digits; booleans; lists as lists of text.

    Args:
      stream: its text.
      kinds: of the values of each column; of a column that is not named, the first value of the file tells it.
      place: the file's path and its number among the units of the source.
      columns: the wanted ones.
      batch_rows: rows at once at most.
      outcomes: takes the rows that are malformed, or hold a value of another kind.
      block_size: bytes that are read at once; the result does not depend on it.
    """
    cut = _Cutter(kinds, columns, stream.encoding)
    yield from text_rows.read(stream, cut, place, batch_rows, outcomes, block_size=block_size)


class _Cutter:
    """Judges lines; see ``text_rows.Cutter``."""

    def __init__(self, kinds: Mapping[str, str], columns: list[str], encoding: str) -> None:
        self._columns, self._kinds, self._encoding = columns, dict(kinds), encoding

    def __call__(self, block: bytes, is_last: bool, where: str) -> Cut:
        lines = block.split(b"\n")[:-1]
        rows: dict[int, dict[str, Any]] = {}
        broken: dict[int, str] = {}
        for at, line in enumerate(lines):
            try:
                if bare := line.strip(_SPACE):
                    rows[at] = parsed(bare, self._encoding)
            except Malformed as error:
                broken[at] = str(error)
        try:
            arrays = self._together(list(rows.values()))
        except (Malformed, UnicodeEncodeError):
            arrays = self._one_by_one(rows, broken)
        is_whole = np.zeros(len(lines), np.bool_)
        is_whole[list(rows)] = True
        is_first = is_whole.copy()
        is_first[list(broken)] = True
        batch = pa.RecordBatch.from_arrays(arrays, self._columns)
        shown = {at: (detail, lines[at].strip(_SPACE)) for at, detail in broken.items()}
        return Cut(is_first, is_whole, batch, len(block), shown)

    def _together(self, rows: list[dict[str, Any]]) -> list[pa.Array]:
        """The columns of rows of which none is broken, which most blocks are.

        Raises:
          Malformed, UnicodeEncodeError: one of them is.
        """
        arrays, found = [], dict(self._kinds)
        for name in self._columns:
            values = [row.get(name) for row in rows]
            kinds = {KINDS.get(each, "") for each in set(map(type, values)) - {type(None)}}
            if kinds - {found.get(name)}:
                if name in found or kinds - _TYPES.keys() or len(kinds) > 1:
                    raise Malformed(f"a value of '{name}' is of another kind")
                found[name] = kinds.pop()
            arrays.append(_column(name, values, found.get(name, TEXT)))
        self._kinds = found
        return arrays

    def _one_by_one(
        self, rows: dict[int, dict[str, Any]], broken: dict[int, str]
    ) -> list[pa.Array]:
        """The same where some are; they go from ``rows`` to ``broken``."""
        for at, row in list(rows.items()):
            new: dict[str, str] = {}
            try:
                for name in self._columns:
                    value = row.get(name)
                    if value is None:
                        continue
                    kind = KINDS.get(type(value))
                    expected = self._kinds.get(name, kind)
                    if kind is None or kind != expected:
                        raise Malformed(
                            f"'{name}' is {kind or 'an object'}, expected {expected or 'a single value or a list'}"
                        )
                    for each in value if isinstance(value, list) else [value]:
                        _check(name, each)
                    new[name] = kind
            except Malformed as error:
                broken[at] = str(error)
                del rows[at]
            else:
                self._kinds = {**new, **self._kinds}
        return self._together(list(rows.values()))


def _column(name: str, values: list[Any], kind: str) -> pa.Array:
    """Values of one kind, or missing ones."""
    if kind == NUMBER:
        values = [None if value is None else number(value) for value in values]
    elif kind == LIST:
        values = [value and [_text(name, each) for each in value] for value in values]
    return pa.array(values, _TYPES[kind])


def _text(name: str, value: Any) -> str | None:
    """A value in a list."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return number(value)
    raise Malformed(
        f"'{name}' holds {KINDS.get(type(value), 'an object')} in a list, expected single values"
    )


def _check(name: str, value: Any) -> None:
    """Whether a single value can be written.

    Raises:
      Malformed: it cannot.
    """
    try:
        (_text(name, value) or "").encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"'{name}' holds half of a surrogate pair") from error
