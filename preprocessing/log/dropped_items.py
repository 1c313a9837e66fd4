"""The items that training leaves out: a bit an item in a file, read once a process.

A list of them would be as long as the catalogue: most items of a long tail are rare.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

_PLAIN = CompressionTypes.UNCOMPRESSED


def write(path: str, dropped: NDArray[np.bool_]) -> None:
    """Writes which rows [N + 1] are dropped."""
    with FileSystems.create(path, compression_type=_PLAIN) as out:
        out.write(np.packbits(dropped, bitorder="little").tobytes())


def is_dropped(path: str | None, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of the rows [n] is dropped; without a file none is."""
    if path is None:
        return np.zeros(len(rows), np.bool_)
    found: NDArray[np.bool_] = (_bits(path)[rows >> 3] >> (rows & 7) & 1).astype(np.bool_)
    return found


@lru_cache(maxsize=1)
def _bits(path: str) -> NDArray[np.uint8]:
    with FileSystems.open(path, compression_type=_PLAIN) as stream:
        return np.frombuffer(stream.read(), np.uint8)
