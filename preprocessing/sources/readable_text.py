"""Bytes of sources as text, row by row: a value that is not UTF-8 costs its row and no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.sources.row_outcomes import RowOutcomes, Rows


def as_text(rows: Rows, outcomes: RowOutcomes, encoding: str = "UTF-8") -> Rows:
    """Columns of bytes, or of lists of bytes, as text; rows with a value that is not UTF-8 are malformed.

    Args:
      rows: with their columns.
      outcomes: takes those that are malformed.
      encoding: that the source was decoded from, for people.
    """
    columns = dict(zip(rows.batch.schema.names, rows.batch.columns, strict=True))
    texts = {name: _text_type(column.type) for name, column in columns.items()}
    wrong: dict[int, str] = {}
    for name, kind in texts.items():
        if kind is not None and not _is_text(columns[name], kind):
            for at in _undecodable(columns[name]):
                wrong.setdefault(at, name)
    for at, name in sorted(wrong.items()):
        place = {**rows.place(at), "detail": f"a value of '{name}' is not {encoding}"}
        values = [_shown(column[at].as_py()) for column in columns.values()]
        outcomes.malformed(rows.ordinal, int(rows.numbers[at]), place, " | ".join(values))
    if wrong:
        rows = rows.take(np.setdiff1d(np.arange(rows.batch.num_rows), sorted(wrong)))
    arrays = [
        column if kind is None else column.cast(kind)
        for column, kind in zip(rows.batch.columns, texts.values(), strict=True)
    ]
    return replace(rows, batch=pa.RecordBatch.from_arrays(arrays, list(texts)))


def _text_type(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.large_string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _text_type(kind.value_type)
        return None if inner is None else pa.large_list(inner)
    return None


def _is_text(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _undecodable(column: pa.Array) -> Iterator[int]:
    for at, value in enumerate(column.to_pylist()):
        try:
            for each in value if isinstance(value, list) else [value]:
                (each or b"").decode("utf-8")
        except UnicodeDecodeError:
            yield at


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
