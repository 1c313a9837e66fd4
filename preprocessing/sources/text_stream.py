"""Files of text in any encoding as streams of UTF-8: whatever cannot be decoded becomes a byte that UTF-8 never has.

So one place judges text, row by row, and a character that is broken costs its row and no other.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from preprocessing.base.errors import LongtailError
from preprocessing.sources import input_files

_MARKS = (  # the longer ones first: the mark of UTF-16 begins one of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)
"""A byte order mark, and the encodings that it fits."""
_OTHER = (
    (b"\x1f\x8b\x08", "compressed by gzip", "give it the ending .gz"),
    (b"BZh91AY&SY", "compressed by bzip2", "give it the ending .bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "give it the ending .zst"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", "unpack it, or export it as CSV"),
    (b"PAR1", "Parquet", "set format: parquet"),
)
"""How files begin that are no text, and what helps."""
_HEAD = 10
_INVALID = "longtail-invalid"
_NEVER = b"\xff"
"""A byte that no UTF-8 holds."""


class TextStream(Protocol):
    """What the readers of text need."""

    encoding: str
    """Of the file, for people."""

    def read(self, size: int, /) -> bytes:
        """The next bytes of UTF-8, at least one but at the end."""
        ...


@contextmanager
def opened_text(path: str, encoding: str | None) -> Iterator[TextStream]:
    """A file, decompressed by its ending and without a byte order mark.

    Args:
      path: of the file.
      encoding: a codec of Python; None for what the byte order mark says, and UTF-8 where there is none.

    Raises:
      LongtailError: it cannot be read, is no text, or its byte order mark is one of another encoding.
    """
    with input_files.opened(path) as stream:
        yield as_utf8(stream, encoding, path)


def as_utf8(stream: IO[bytes], encoding: str | None, path: str) -> TextStream:
    """The same for bytes; see ``opened_text``."""
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    for begin, what, remedy in _OTHER:
        if head.startswith(begin):
            raise LongtailError(f"{path} is not text, it is {what}: {remedy}")
    chosen = encoding and codecs.lookup(encoding).name
    mark, *fitting = next((each for each in _MARKS if head.startswith(each[0])), (b"",))
    if fitting:
        if chosen is not None and chosen not in fitting:
            raise LongtailError(
                f"{path}: expected text in {encoding}, as 'encoding' says, received the byte order mark of "
                f"{fitting[-1]}: leave 'encoding' out, and the mark tells it"
            )
        chosen = fitting[-1]
    if chosen in (None, "utf-8", "utf-8-sig"):
        return _Following(head[len(mark) :], stream)
    return _Recoded(_Following(head[len(mark) :], stream), chosen)


class _Following:
    """A head that was read already, and the rest."""

    encoding = "UTF-8"

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._stream.read(size)


class _Recoded:
    """Text of another encoding; what cannot be decoded becomes ``_NEVER``."""

    def __init__(self, stream: TextStream, encoding: str) -> None:
        self._stream, self.encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            given = self._stream.read(size)
            self._ended = not given
            text = self._decoder.decode(given, self._ended)
            if text:
                return text.encode("utf-8", _INVALID)
        return b""


def _invalid(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return _NEVER * (error.end - error.start), error.end
    raise error


codecs.register_error(_INVALID, _invalid)
