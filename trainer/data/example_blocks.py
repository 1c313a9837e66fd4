"""Training examples by their place in the order of an epoch, read from the files where they lie.

The order is that of shuffled blocks, of which a window of the files' records is shuffled again as it
is read: a function of (seed, epoch, window) alone. So an example is read once an epoch, and starting
in the middle reads nothing that lies before.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from preprocessing.sources.record_blocks import BLOCK, FRAMING, path_of

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class _Order(NamedTuple):
    """The blocks of an epoch in turn, and how many records lie before each: `[n]`, `[n + 1]`."""

    epoch: int
    blocks: NDArray[np.int64]
    before: NDArray[np.int64]


class ExampleBlocks:
    """The blocks of some files of examples: 24 bytes for each 64 examples."""

    def __init__(self, files: Sequence[str], seed: int) -> None:
        """Reads where the blocks are.

        Raises:
          LongtailError: that is not known of a file.
        """
        self._files, self._seed = list(files), seed
        listed = [_listed(path) for path in self._files]
        self._file = np.repeat(np.arange(len(listed)), [len(each) - 2 for each in listed])
        self._start = np.concatenate([np.zeros(0, np.int64), *(each[1:-1] for each in listed)])
        self._end = np.concatenate([np.zeros(0, np.int64), *(each[2:] for each in listed)])
        counts = [np.full(len(each) - 2, BLOCK) for each in listed]
        for each, own in zip(listed, counts, strict=True):
            own[-1:] -= len(own) * BLOCK - each[0]
        self._counts = np.concatenate([np.zeros(0, np.int64), *counts])
        self._order: _Order | None = None

    def __len__(self) -> int:
        """Examples in all."""
        return int(self._counts.sum())

    def read(self, epoch: int, first: int, last: int) -> NDArray[np.object_]:
        """The records of the places from `first` to before `last` of an epoch, shuffled.

        Raises:
          LongtailError: a file is damaged.
        """
        order = self._order_of(epoch)
        low = int(np.searchsorted(order.before, first, side="right")) - 1
        high = int(np.searchsorted(order.before, last, side="left"))
        records: list[bytes] = []
        for block in order.blocks[low:high]:
            records += self._read_block(int(block))
        skipped = first - int(order.before[low])
        chosen = np.empty(last - first, np.object_)
        chosen[:] = records[skipped : skipped + last - first]
        np.random.default_rng([self._seed, epoch, first]).shuffle(chosen)
        return chosen

    def _order_of(self, epoch: int) -> _Order:
        if self._order is None or self._order.epoch != epoch:
            blocks = np.random.default_rng([self._seed, epoch]).permutation(len(self._counts))
            before = np.concatenate([[0], np.cumsum(self._counts[blocks])])
            self._order = _Order(epoch, blocks, before)
        return self._order

    def _read_block(self, block: int) -> list[bytes]:
        path = self._files[self._file[block]]
        with open(path, "rb") as stream:
            stream.seek(self._start[block])
            content = stream.read(int(self._end[block] - self._start[block]))
        return _unframed(content, int(self._counts[block]), path)


def _listed(path: str) -> NDArray[np.int64]:
    try:
        listed: NDArray[np.int64] = np.load(path_of(path))
    except (FileNotFoundError, ValueError) as error:
        raise LongtailError(
            f"{path_of(path)} is missing or damaged, which tells where the examples of {path} are: run preprocess again"
        ) from error
    return listed


def _unframed(content: bytes, number: int, path: str) -> list[bytes]:
    """The contents of a block's records, each checked."""
    records: list[bytes] = []
    at = 0
    while at + FRAMING <= len(content):
        (size,) = _LENGTH.unpack_from(content, at)
        record = content[at + 12 : at + 12 + size]
        sums = ((8, content[at : at + 8]), (12 + size, record))
        if at + FRAMING + size > len(content) or any(
            _CHECKSUM.unpack_from(content, at + place)[0] != _masked(part) for place, part in sums
        ):
            break
        records.append(record)
        at += FRAMING + size
    if len(records) != number or at != len(content):
        raise LongtailError(
            f"{path} is damaged, or not the file of {path_of(path)}: run preprocess again"
        )
    return records


def _masked(part: bytes) -> int:
    """The checksum as TFRecord writes it."""
    value = int(google_crc32c.value(part))
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
