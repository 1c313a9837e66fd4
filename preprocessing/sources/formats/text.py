"""What the formats of text share: encodings, compression, and how many rows a file is likely to have."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, ClassVar

from preprocessing.base.locations import COMPRESSED
from preprocessing.sources.formats.base import Format

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig

_PACKED = 5
"""By how much compressed text is smaller, for an estimate."""
_OF_NO_FILE = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"})
"""Codecs of Python that no file of rows is written in."""


class TextFormat(Format):
    """Text in files, a file a unit."""

    options: ClassVar[frozenset[str]] = frozenset({"encoding"})
    bytes_per_row: ClassVar[int]
    """For an estimate."""

    def check(self, table: TableConfig) -> None:
        """Refuse an encoding that Python does not know."""
        if table.encoding is not None:
            check_encoding(table.encoding)

    def estimate(self, path: str) -> int:
        """The number of rows of a file by its size."""
        from preprocessing.sources import input_files

        packed = _PACKED if path.endswith(COMPRESSED) else 1
        return -(-input_files.size(path) * packed // self.bytes_per_row)


def compressed_too(*stems: str) -> tuple[str, ...]:
    """Endings of text, and of the same text compressed."""
    return tuple(f"{stem}{end}" for stem in stems for end in ("", *COMPRESSED))


def check_encoding(name: str) -> None:
    """Whether text in files can be of this encoding.

    Raises:
      ValueError: Python knows no such codec, or one of something else.
    """
    try:
        known = codecs.lookup(name)
        "a".encode(name)  # of text and not, like base64, of bytes
    except (LookupError, ValueError):  # of which UnicodeError is one
        known = None
    if known is None or known.incrementaldecoder is None or known.name in _OF_NO_FILE:
        raise ValueError(
            f"encoding expected the name of an encoding of text that Python knows, such as utf-8, utf-16, latin-1, "
            f"cp1252 or shift_jis, received '{name}'"
        )
