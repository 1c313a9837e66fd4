"""Arrow columns of any type as text and numbers, value by value: what a batch holds besides decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError

LIMIT = 2.0**63
"""Numbers of this magnitude are missing: no integer column holds them, and sentinels (1e30, DBL_MAX) lie there."""
KEY_FAULTS = (
    "",
    "missing",
    "is not UTF-8",
    "is not a whole number",
    "is too large for a float to be exact",
    "holds a line break or NUL",
)
"""Why a value is no key; a fault's number is its place here, 0 for a good key."""
_TEXT = pa.large_string()
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NO_NUMBER = pa.array(["nan", "null", "none", "na", "n/a"], _TEXT)
"""Words that are taken for a missing number without a note."""
_NAT = np.iinfo(np.int64).min


@contextmanager
def reading(place: str, column: str, role: str) -> Iterator[None]:
    """Says in which file and column a type was met that cannot be read."""
    try:
        yield
    except UnreadableType as error:
        raise LongtailError(
            f"{place}: column '{column}' is of type {error.args[0]}, of which no {role} can be read: expected "
            f"{error.args[1]}; convert it in the source, or name another column"
        ) from error


class UnreadableType(Exception):
    """A column's type, and what was expected."""

    def __init__(self, received: pa.DataType, expected: str) -> None:
        super().__init__(str(received), expected)


def plain(column: pa.Array) -> pa.Array:
    """The column without chunks, dictionaries, run ends, views and extensions."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pa.types.is_dictionary(column.type):
            # By take: a null may stand among the values, too.
            column = column.dictionary.take(column.indices)
        elif _is(column.type, "is_run_end_encoded"):
            column = pc.run_end_decode(column)
        elif _is(column.type, "is_string_view") or _is(column.type, "is_binary_view"):
            text = _is(column.type, "is_string_view")
            column = column.cast(_TEXT if text else pa.large_binary())
        else:
            return column


def is_list(kind: pa.DataType) -> bool:
    """Whether a value is a list."""
    names = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(_is(kind, name) for name in names)


def lists(column: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Lengths [rows] of a column of lists, 0 where there is none, and the values one after the other."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if not pa.types.is_fixed_size_list(column.type):
        return lengths.astype(np.int64), plain(column.flatten())
    # Versions of Arrow differ in what flatten() gives for missing lists of a fixed size.
    size, rows = column.type.list_size, np.flatnonzero(lengths) + column.offset
    at = (rows[:, None] * size + np.arange(size)).ravel()
    return lengths.astype(np.int64), plain(column.values.take(pa.array(at, pa.int64())))


def scalars(column: pa.Array) -> pa.Array:
    """The first value of each list; other columns as they are."""
    column = plain(column)
    if not is_list(column.type):
        return column
    lengths, flat = lists(column)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    return flat.take(pa.array(starts, pa.int64(), mask=lengths == 0))


def strings(column: pa.Array) -> pa.Array:
    """Values as large_string, null where they are missing (null, blank, NaN, NaT) or cannot be text.

    Whole floats and decimals are written without a fraction ('12'), others by their shortest form ('1.5').

    Args:
      column: any scalar column [rows], or lists of which the first value counts.

    Raises:
      UnreadableType: times of day, durations, structs, maps.
    """
    column = scalars(column)
    write = next((to_text for known, to_text in _TO_TEXT if known(column.type)), None)
    if write is None:
        raise UnreadableType(column.type, "text, numbers, decimals, booleans or dates")
    text = write(column)
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0)
    return pc.if_else(blank, pa.scalar(None, _TEXT), text)


def unwritable(column: pa.Array, text: pa.Array) -> NDArray[np.bool_]:
    """A mask [rows] of values that were given and are no text: bytes that are not UTF-8, infinite numbers.

    Args:
      column: any column that ``strings`` takes.
      text: what it made of it; only what is null there is looked at again.
    """
    column = scalars(column)
    lost = true(pc.is_valid(column)) & true(pc.is_null(text))
    given = column.filter(pa.array(lost))
    if pa.types.is_floating(column.type):
        lost[lost] = np.isinf(_floats(given))
    else:
        lost[lost] = true(pc.is_null(_utf8(given))) if _is_bytes(column.type) else False
    return lost


def keys(column: pa.Array) -> tuple[pa.Array, NDArray[np.int8]]:
    """Keys of users or items as large_string, null where there is none, and the fault [rows] of each.

    A key is text on one line: it is looked up in files of lines when it is served. Floats are keys where they are whole
    and so small that the next whole number is another float.
    """
    column = scalars(column)
    text = strings(column)
    faults = np.zeros(len(column), np.int8)
    if pa.types.is_floating(column.type):
        values = _floats(column)
        exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
        faults[np.isinf(values) | (np.abs(values) > exact)] = 4
        faults[np.isfinite(values) & (values != np.floor(values))] = 3
    elif pa.types.is_decimal(column.type):
        faults[true(pc.match_substring(text, "."))] = 3
    else:
        faults[true(pc.match_substring_regex(text, r"[\n\r\x00]"))] = 5
    absent = true(pc.is_null(text)) & (faults == 0)
    faults[absent] = 1
    faults[absent & unwritable(column, text)] = 2
    return pc.if_else(pa.array(faults > 0), pa.scalar(None, _TEXT), text), faults


def key_reasons(name: str, faults: NDArray[np.int8]) -> dict[str, NDArray[np.bool_]]:
    """The faults of ``keys`` by reason, for the rows [n] of users or items."""
    written = {
        code: f"{fault} {name}" if fault == "missing" else f"{name} {fault}"
        for code, fault in enumerate(KEY_FAULTS)
    }
    return {written[code]: faults == code for code in range(1, len(KEY_FAULTS))}


def numbers(column: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values as float64 [rows], NaN where there is none, and a mask of those that were given and cannot be used.

    Usable is what is finite and of a magnitude below ``LIMIT``; text holds one number, with a point and no thousands'
    separators.

    Raises:
      UnreadableType: times, durations, structs, maps.
    """
    column = scalars(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan), np.zeros(len(column), bool)
    if _is_bytes(column.type):
        text = strings(column)
        values, bad = _parsed(pc.utf8_trim_whitespace(text))
        bad |= unwritable(column, text)
    elif pa.types.is_floating(column.type):
        values, bad = _floats(column).astype(np.float64), np.zeros(len(column), bool)
    elif any(
        known(column.type)
        for known in (pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
    ):
        values = (
            column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
        )
        bad = np.zeros(len(column), bool)
    else:
        raise UnreadableType(column.type, "numbers, decimals, booleans or text")
    bad |= ~np.isnan(values) & ~(np.abs(values) < LIMIT)
    return np.where(bad, np.nan, values), bad


def _parsed(text: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    is_number = true(pc.match_substring_regex(text, NUMBER))
    known = true(pc.is_in(pc.utf8_lower(text), _NO_NUMBER))
    values = np.full(len(text), np.nan)
    digits = text.filter(pa.array(is_number)).to_numpy(zero_copy_only=False)
    values[is_number] = digits.astype(np.float64)
    return values, true(pc.is_valid(text)) & ~is_number & ~known


def _floats(column: pa.Array) -> NDArray[Any]:
    """Floats of their own width, NaN where they are missing."""
    width = {"halffloat": np.float16, "float": np.float32}.get(str(column.type), np.float64)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(width)
    return values


def _float_text(column: pa.Array) -> pa.Array:
    values = _floats(column)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    whole = np.isfinite(values) & (np.abs(values) < LIMIT) & (values == np.floor(values))
    whole_text = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(_TEXT)
    text = pc.if_else(pa.array(whole), whole_text, pa.array(values).cast(_TEXT))
    return pc.if_else(pa.array(np.isfinite(values)), text, pa.scalar(None, _TEXT))


def _decimal_text(column: pa.Array) -> pa.Array:
    """Digits without an exponent and without zeros at the end of a fraction; Arrow cannot cast all decimals."""
    encoded = column.dictionary_encode()
    written = [f"{each:f}" for each in encoded.dictionary.to_pylist()]
    short = [each.rstrip("0").rstrip(".") if "." in each else each for each in written]
    return pa.array(short, _TEXT).take(encoded.indices)


def _utf8(column: pa.Array) -> pa.Array:
    """Bytes as text, null where they are not UTF-8."""
    column = column.cast(pa.large_binary())
    try:
        return column.cast(_TEXT)
    except pa.ArrowInvalid:
        return pa.array([_decoded(each) for each in column.to_pylist()], _TEXT)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _stamp_text(column: pa.Array) -> pa.Array:
    """ISO 8601 in UTC, a fraction of a second only where there is one."""
    instants = pc.fill_null(column.cast(pa.int64()), _NAT).to_numpy()
    valid = instants != _NAT
    stamps = np.where(valid, instants, 0).astype(f"datetime64[{column.type.unit}]")
    text = pa.array(stamps.astype(str).tolist(), _TEXT)
    for pattern, kept in ((r"(\.\d*?)0+$", r"\1"), (r"\.$", "")):
        text = pc.replace_substring_regex(text, pattern, kept)
    return pc.if_else(pa.array(valid), text, pa.scalar(None, _TEXT))


def _is(kind: pa.DataType, name: str) -> bool:
    """A test of a type that not every version of Arrow knows."""
    test = getattr(pa.types, name, None)
    return bool(test is not None and test(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    names = ("string", "large_string", "binary", "large_binary", "fixed_size_binary")
    return any(_is(kind, f"is_{name}") for name in names)


def true(mask: pa.Array) -> NDArray[np.bool_]:
    """A mask [rows] as NumPy has it, false where it is null."""
    found: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return found


def _cast(column: pa.Array) -> pa.Array:
    return column.cast(_TEXT)


_TO_TEXT: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (_is_bytes, _utf8),
    (pa.types.is_integer, _cast),
    (pa.types.is_boolean, _cast),
    (pa.types.is_null, _cast),
    (pa.types.is_floating, _float_text),
    (pa.types.is_decimal, _decimal_text),
    (pa.types.is_date, _cast),
    (pa.types.is_timestamp, _stamp_text),
)
