"""Arrow files between passes: interactions divided by user, so that no pass holds more than a partition."""

from __future__ import annotations

import contextlib
import math
import resource
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

from preprocessing.errors import LongtailError

_BUFFER_ROWS = 8_192
_OTHER_FILES = 256
"""What Beam, gRPC and the sources keep open."""


def checked_partitions(rows: int, rows_per_partition: int) -> int:
    """How many partitions a log is divided in: a worker holds one open file for each.

    Raises:
      LongtailError: more than this machine lets a process open.
    """
    partitions = max(1, math.ceil(rows / rows_per_partition))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = limit - _OTHER_FILES
    if limit != resource.RLIM_INFINITY and partitions > max(1, room):
        raise LongtailError(
            f"preprocess.rows_per_partition={rows_per_partition} divides {rows:,} rows in {partitions:,} files that "
            f"are open at once, of {limit:,} that 'ulimit -n' allows: raise it to {math.ceil(rows / max(1, room))}"
        )
    return partitions


class PartitionWriters:
    """Writes the rows of a unit to one Arrow stream a partition.

    Names sort by the unit, so that what is read later does not depend on which worker came first; they are unique,
    so that a retried worker overwrites nothing.
    """

    def __init__(self, directory: str, partitions: int, ordinal: int) -> None:
        self._directory = directory
        self._partitions = partitions
        self._source = f"{ordinal:08d}-{uuid.uuid4().hex[:12]}"
        self._stack = contextlib.ExitStack()
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self.paths: dict[int, str] = {}

    def __enter__(self) -> PartitionWriters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            for partition in list(self._waiting):
                self._flush(partition)
        self._stack.close()

    def write(self, batch: pa.RecordBatch, hashes: NDArray[Any]) -> None:
        """Divide a batch by the hash [rows] of its user."""
        partition = (hashes % np.uint64(self._partitions)).astype(np.int64)
        order = np.argsort(partition, kind="stable")
        edges = np.searchsorted(partition[order], np.arange(self._partitions + 1))
        ordered = batch.take(pa.array(order))
        for number in np.flatnonzero(np.diff(edges)):
            piece = ordered.slice(edges[number], edges[number + 1] - edges[number])
            waiting = self._waiting.setdefault(int(number), [])
            waiting.append(piece)
            if sum(p.num_rows for p in waiting) >= _BUFFER_ROWS:
                self._flush(int(number))

    def _flush(self, partition: int) -> None:
        pieces = self._waiting.pop(partition, [])
        if not pieces:
            return
        if partition not in self._writers:
            path = FileSystems.join(self._directory, f"part-{partition:05d}-{self._source}.arrows")
            stream = self._stack.enter_context(
                FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
            )
            self._writers[partition] = self._stack.enter_context(
                pa.ipc.new_stream(stream, pieces[0].schema)
            )
            self.paths[partition] = path
        for batch in pa.Table.from_batches(pieces).combine_chunks().to_batches():
            self._writers[partition].write_batch(batch)


def read_streams(paths: list[str]) -> pa.Table | None:
    """The rows of several files of one partition by unit, None without files."""
    tables = []
    for path in sorted(paths):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            tables.append(pa.ipc.open_stream(stream).read_all())
    return pa.concat_tables(tables).combine_chunks() if tables else None


def read_batches(path: str, numbers: list[int]) -> Iterator[pa.RecordBatch]:
    """Record batches of an Arrow file by number."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        reader = pa.ipc.open_file(stream)
        for number in numbers:
            yield reader.get_batch(number)
