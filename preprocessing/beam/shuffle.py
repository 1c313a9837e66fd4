"""Arrow files between passes: interactions divided by user, so that no pass holds more than a partition."""

from __future__ import annotations

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

_WAITING_ROWS = 1 << 18
"""Rows that wait until they are divided: the more, the longer the record batches of many partitions."""

PartitionFile = tuple[str, list[int]]
"""What a unit holds of a partition: a file, and the numbers of its record batches."""


Group = tuple[int, list[PartitionFile], list[PartitionFile]]
"""A partition: its number, its pieces of the log and of the users."""


class PartitionWriter:
    """Writes the rows of a unit to one Arrow file, in record batches of one partition each.

    Names of files sort by the unit, so that what is read later does not depend on which worker came first; they are
    unique, so that a retried worker overwrites nothing.
    """

    def __init__(self, directory: str, partitions: int, ordinal: int) -> None:
        self._partitions = partitions
        self._path = FileSystems.join(directory, f"{ordinal:08d}-{uuid.uuid4().hex[:12]}.arrow")
        self._stack = contextlib.ExitStack()
        self._writer: pa.RecordBatchFileWriter | None = None
        self._waiting: list[tuple[pa.RecordBatch, NDArray[np.int64]]] = []
        self._numbers: dict[int, list[int]] = defaultdict(list)
        self._written = 0

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is None:
                self._divide()

    @property
    def pieces(self) -> list[tuple[int, PartitionFile]]:
        """What was written, by partition; complete when the block has ended."""
        return [
            (number, (self._path, batches)) for number, batches in sorted(self._numbers.items())
        ]

    def write(self, batch: pa.RecordBatch, hashes: NDArray[Any]) -> None:
        """Divide a batch by the hash [rows] of its user."""
        self._waiting.append((batch, (hashes % np.uint64(self._partitions)).astype(np.int64)))
        if sum(len(each) for each, _ in self._waiting) >= _WAITING_ROWS:
            self._divide()

    def _divide(self) -> None:
        rows = (
            pa.Table.from_batches([batch for batch, _ in self._waiting]) if self._waiting else None
        )
        if rows is None or not len(rows):
            return
        partition = np.concatenate([numbers for _, numbers in self._waiting])
        self._waiting = []
        order = np.argsort(partition, kind="stable")
        edges = np.searchsorted(partition[order], np.arange(self._partitions + 1))
        ordered = rows.take(pa.array(order)).combine_chunks()
        if self._writer is None:
            stream = self._stack.enter_context(
                FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
            )
            self._writer = self._stack.enter_context(pa.ipc.new_file(stream, ordered.schema))
        for number in np.flatnonzero(np.diff(edges)):
            own = ordered.slice(edges[number], edges[number + 1] - edges[number])
            for batch in own.to_batches():
                self._writer.write_batch(batch)
                self._numbers[int(number)].append(self._written)
                self._written += 1


def read_pieces(
    pieces: list[PartitionFile], columns: Collection[str] | None = None
) -> pa.Table | None:
    """The rows of a partition by unit, None without pieces; of some columns or of all."""
    batches = [
        batch for path, numbers in sorted(pieces) for batch in read_batches(path, numbers, columns)
    ]
    return pa.Table.from_batches(batches).combine_chunks() if batches else None


def read_batches(
    path: str, numbers: list[int], columns: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Record batches of an Arrow file by number, with some columns or all."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        reader = pa.ipc.open_file(stream)
        if columns is not None:
            fields = [i for i, name in enumerate(reader.schema.names) if name in columns]
            reader = pa.ipc.open_file(stream, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for number in numbers:
            yield reader.get_batch(number)
