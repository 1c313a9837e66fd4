"""The form of a file: Parquet, records or text; of text its encoding, its separator and whether there is a header line.

Found are the keys that a section such as ``data.interactions`` needs beyond ``path``: none where the readers find the
same by themselves.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.init.names import looks_like_a_name
from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources import input_files
from preprocessing.sources.formats.csv import Csv
from preprocessing.sources.formats.registry import FORMATS, format_of

HEAD = 1 << 18
"""Bytes of a text file that are looked at."""
SEPARATORS = ("\t", "::", ",", ";", "|")
NO_NAME = "column_"
"""What names of columns begin with where the file has no header line."""
_LINES = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Form:
    """What the reader has to be told.

    Attributes:
      path: as the user gave it.
      keys: of the table's section, beyond ``path``.
      reasons: one sentence for each key.
    """

    path: str
    keys: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def section(self) -> dict[str, Any]:
        """The section of the table."""
        return {"path": self.path, **self.keys}


def find_form(path: str) -> Form:
    """Look at the first bytes of a table.

    Args:
      path: file, pattern or folder.

    Raises:
      LongtailError: there is no such file, it is empty, or it is neither a known format nor text.
    """
    files = input_files.find_files(path)
    known = {format_of(each) for each in files}
    if known & {"parquet", "tfrecord"}:
        return Form(path)
    filled = next((head for head in map(_head, files) if head.strip()), b"")
    if not filled:
        raise LongtailError(f"{files[0]} is empty: expected a table with at least one row")
    if filled.startswith(b"PAR1"):
        return Form(path, {"format": "parquet"}, {"format": "the file begins as Parquet does"})
    text, encoding = _decoded(filled, files[0])
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if encoding != "utf-8":
        keys["encoding"] = encoding
        reasons["encoding"] = "some bytes are not UTF-8; every byte is a letter in Latin-1"
    lines = [line for line in text.splitlines() if line.strip()][:_LINES]
    if _is_json(lines):
        if "jsonl" not in known:
            keys["format"] = "jsonl"
            reasons["format"] = "every line is an object of JSON"
        return Form(path, keys, reasons)
    separator = find_separator(lines, path)
    keys |= _text_keys(path, files, separator)
    if "format" in keys:
        reasons["format"] = "lines of text whose values are separated"
    if "delimiter" in keys:
        shown = {"\t": "a tab", ",": "a comma"}.get(separator, f"'{separator}'")
        reasons["delimiter"] = f"{shown} cuts every line into the same number of values"
    rows = [cut(line, separator) for line in lines]
    if not has_header(rows):
        keys["columns"] = [f"{NO_NAME}{n}" for n in range(1, len(rows[0]) + 1)]
        reasons["columns"] = (
            "the first line holds values like the others, so the file has no header line"
        )
    return Form(path, keys, reasons)


def find_separator(lines: Sequence[str], path: str) -> str:
    """The separator that cuts lines into the same number of values, most values first.

    Raises:
      LongtailError: none does.
    """
    best: tuple[float, int] = (0.0, 0)
    chosen = None
    for separator in SEPARATORS:
        counts = Counter(len(cut(line, separator)) for line in lines)
        values, agree = counts.most_common(1)[0]
        if separator == "|" and chosen is not None and best[0] >= 0.9:
            continue  # it stands between the values of one cell more often than between cells
        share = agree / len(lines)
        if values > 1 and share >= 0.8 and (round(share, 1), values) > best:
            best, chosen = (round(share, 1), values), separator
    if chosen is None:
        raise LongtailError(
            f"{path}: expected lines of text with the same number of values, separated by one of "
            f"{', '.join(repr(each) for each in SEPARATORS)}, found none that does; give CSV, Parquet or TFRecord"
        )
    return chosen


def cut(line: str, separator: str) -> list[str]:
    """The values of a line; quotes count where the separator is one character."""
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line names the columns: only names, each once, and no value of its own column.

    Args:
      rows: cut lines, the first one first.
    """
    first, rest = rows[0], rows[1:]
    named = (
        first[1:] if first and not first[0].strip() else first
    )  # pandas leaves its index without a name
    if not named or len(set(first)) < len(first):
        return False
    if not all(looks_like_a_name(name) for name in named):
        return False
    for place, name in enumerate(first):
        others = [row[place] for row in rest if len(row) > place]
        if name in others or _same_shape(name, others):
            return False
    return True


def _same_shape(name: str, others: Sequence[str]) -> bool:
    """Whether a first value is built as those below it: `C0007` above `C0012`."""
    if not others or not re.search(r"\d", name):
        return False
    return Counter(map(_shape, others)).most_common(1)[0][0] == _shape(name)


def _shape(text: str) -> str:
    return re.sub(r"[A-Za-z]", "a", re.sub(r"\d", "9", text))


def _text_keys(path: str, files: list[str], separator: str) -> dict[str, Any]:
    """`format` and `delimiter` where the reader would choose otherwise."""
    form = FORMATS.get(format_of(path) or format_of(files[0]) or "")
    if not isinstance(form, Csv):
        return {"format": "csv"} | ({"delimiter": separator} if separator != "," else {})
    by_itself = form.dialect(TableConfig(path=path), files[0]).delimiter
    return {} if by_itself == separator else {"delimiter": separator}


def _head(path: str) -> bytes:
    with input_files.opened(path) as stream, input_files.reading(path):
        read = b""
        while len(read) < HEAD and (more := stream.read(HEAD - len(read))):
            read += more
    whole = read.rfind(b"\n") + 1
    return read[:whole] if len(read) == HEAD and whole else read


def _decoded(head: bytes, path: str) -> tuple[str, str]:
    if b"\0" in head:
        raise LongtailError(
            f"{path} is not text: expected CSV, JSON lines, Parquet or TFRecord; name its ending so, or convert it"
        )
    head = head.removeprefix(_BYTE_ORDER_MARK)
    try:
        return head.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return head.decode("latin-1"), "latin-1"


def _is_json(lines: Sequence[str]) -> bool:
    try:
        return all(isinstance(json.loads(line), dict) for line in lines[:20])
    except ValueError:
        return False
