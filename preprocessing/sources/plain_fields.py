"""Cuts lines at a delimiter of any length, where quotes are characters like others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.sources import text_rows
from preprocessing.sources.csv_lines import NUL, RAGGED, RETURN, TOO_LONG
from preprocessing.sources.scalars import true
from preprocessing.sources.text_rows import Cut


def cut(block: bytes, delimiter: bytes, fields: int, wanted: Mapping[str, int]) -> Cut:
    """Judge the lines of a block and convert those that are whole; see ``text_rows.Cut``.

    Args:
      block: lines that end in a newline.
      delimiter: of at least one byte; it is looked for from left to right, as ``str.split`` does.
      fields: of each row.
      wanted: the place of each column among them.
    """
    lines = block.split(b"\n")[:-1]
    if b"\r" in block:
        lines = [line.removesuffix(b"\r") for line in lines]
    text = pa.array(lines, pa.large_binary())
    lengths = pc.binary_length(text).to_numpy()
    is_first = lengths > 0
    parts = pc.split_pattern(text, pattern=delimiter)
    counts = pc.list_value_length(parts).to_numpy().astype(np.int64)
    broken: dict[int, str] = {}
    for mask, detail in (
        (lengths > text_rows.LONGEST_LINE, TOO_LONG.format(text_rows.LONGEST_LINE)),
        (_holds(text, block, b"\0"), NUL),
        (counts != fields, RAGGED),
        (_holds(text, block, b"\r"), RETURN),
    ):
        for at in np.flatnonzero(mask & is_first).tolist():
            broken.setdefault(at, detail.format(fields, counts[at]))
    is_whole = is_first.copy()
    is_whole[list(broken)] = False
    first = np.concatenate([[0], np.cumsum(counts)])[:-1][is_whole]
    flat = parts.flatten()
    columns = []
    for at in wanted.values():
        values = flat.take(pa.array(first + at, pa.int64()))
        empty = pc.equal(pc.binary_length(values), 0)
        columns.append(pc.if_else(empty, pa.scalar(None, values.type), values))
    batch = pa.RecordBatch.from_arrays(columns, list(wanted))
    shown = {at: (detail, lines[at]) for at, detail in broken.items()}
    return Cut(is_first, is_whole, batch, len(block), shown)


def _holds(text: pa.Array, block: bytes, byte: bytes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if byte not in block:
        return np.zeros(len(text), np.bool_)
    return true(pc.match_substring(text, byte))
