"""Reads JSON with one object a line: each line is judged by itself, and so is each value.

Of the libraries that read JSON, Python's own does it all in one pass. It takes a line by itself: Arrow gives up a
whole block at a broken line. It tells of a name that occurs twice, and keeps the digits of every number: orjson takes
the last of two values, and a float for an integer beyond 64 bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.base.errors import LongtailError
from preprocessing.sources import text_rows
from preprocessing.sources.csv_lines import TOO_LONG
from preprocessing.sources.row_outcomes import RowOutcomes, Rows
from preprocessing.sources.text_rows import BLOCK, Cut
from preprocessing.sources.text_stream import TextStream

TEXT, NUMBER, BOOLEAN, LIST = "text", "a number", "a boolean", "a list"
_HEAD_BYTES, _HEAD_ROWS = 1 << 16, 1_000
_KINDS = {str: TEXT, int: NUMBER, Decimal: NUMBER, bool: BOOLEAN, list: LIST}
_NO_JSON = "no JSON"
_LARGEST = 400
"""Digits of a number that is written out; a float of 64 bits has fewer."""
_WRITTEN = pa.large_string()
_TYPES = {BOOLEAN: pa.bool_(), LIST: pa.large_list(_WRITTEN)}


class Malformed(ValueError):
    """What is wrong with a line."""


def head(stream: TextStream, path: str) -> list[dict[str, Any]]:
    """The first objects of a file, as far as they can be read.

    Raises:
      LongtailError: it begins with an array, or none of its first lines is an object.
    """
    found, fault = [], ""
    block, _ = next(text_rows.blocks(stream, _HEAD_BYTES), (b"", True))
    for line in islice((each for each in block.split(b"\n") if each.strip()), _HEAD_ROWS):
        try:
            found.append(_parsed(line, stream.encoding))
        except Malformed as error:
            fault = fault or str(error)
    begins_array = block.lstrip().startswith(b"[")
    if found and not (begins_array and fault.startswith(_NO_JSON)):
        return found
    remedy = "'jq -c .[]' does it for an array" if begins_array else "'jq -c .' does it for objects"
    raise LongtailError(
        f"{path}: expected JSON with one object a line, received a first line that is none ({fault or 'no text'}): "
        f"write each object on a line of its own; {remedy}"
    )


def kind_of(value: Any) -> str | None:
    """What kind of value it is; None for what is missing, or is no value of a column."""
    return _KINDS.get(type(value))


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
        lines = block.replace(b"\r\n", b"\n").split(b"\n")[:-1]
        is_first = np.ones(len(lines), np.bool_)
        is_whole = np.ones(len(lines), np.bool_)
        broken: dict[int, tuple[str, bytes]] = {}
        rows = []
        for at, line in enumerate(lines):
            if not line or line.isspace():
                is_first[at] = is_whole[at] = False
                continue
            try:
                rows.append(self._values(_parsed(line, self._encoding)))
            except Malformed as error:
                broken[at] = (str(error), line)
                is_whole[at] = False
        values = zip(*rows, strict=True) if rows else ((),) * len(self._columns)
        arrays = [
            pa.array(each, _TYPES.get(self._kinds.get(name, TEXT), _WRITTEN))
            for name, each in zip(self._columns, values, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, self._columns)
        return Cut(is_first, is_whole, batch, len(block), broken)

    def _values(self, row: dict[str, Any]) -> list[Any]:
        values: list[Any] = []
        new: dict[str, str] = {}
        for name in self._columns:
            value = row.get(name)
            if value is None:
                values.append(None)
                continue
            kind = _KINDS.get(type(value))
            expected = self._kinds.get(name, kind)
            if kind is None or kind != expected:
                raise Malformed(
                    f"'{name}' is {kind or 'an object'}, expected {expected or 'a single value or a list'}"
                )
            new[name] = kind
            values.append(_written(name, value))
        self._kinds = {**new, **self._kinds} if new.keys() - self._kinds.keys() else self._kinds
        return values


def _written(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_text(name, each) for each in value]
    return _text(name, value)


def _text(name: str, value: Any) -> str | None:
    """A single value as text; numbers by their digits, whole ones without a fraction."""
    if isinstance(value, str):
        if not value.isascii():
            _check(name, value)
        return value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return _digits(value)
    raise Malformed(
        f"'{name}' holds {_KINDS.get(type(value), 'an object')} in a list, expected single values"
    )


def _digits(value: Decimal) -> str:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -_LARGEST <= exponent <= _LARGEST:
        return str(value)
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _check(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"'{name}' holds half of a surrogate pair") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"the name '{twice[:100]}' occurs twice")
    return found


def _constant(name: str) -> None:
    if name != "NaN":
        raise Malformed(f"{name}, which is no value of JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_constant
).decode


def _parsed(line: bytes, encoding: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
      Malformed: it is none.
    """
    if len(line) > text_rows.LONGEST_LINE:
        raise Malformed(TOO_LONG.format(text_rows.LONGEST_LINE))
    try:
        found = _decode(line.decode())
    except Malformed:
        raise
    except UnicodeDecodeError as error:
        raise Malformed(f"not {encoding}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"{_NO_JSON}: {error.msg}, character {error.pos + 1}") from error
    except InvalidOperation as error:
        raise Malformed("a number of an exponent that nothing can hold") from error
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise Malformed(f"{_NO_JSON} that can be read: {error}") from error
    if not isinstance(found, dict):
        raise Malformed(f"{_KINDS.get(type(found), 'null')}, expected an object")
    return found
