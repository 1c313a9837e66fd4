"""Rows divided by user and read back by partition: all of them, once, in their order."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.beam import shuffle
from preprocessing.beam.shuffle import PartitionFile, PartitionWriter, read_pieces

BATCHES, ROWS = 9, 40


def batch_of(number: int) -> tuple[pa.RecordBatch, np.ndarray]:
    """Rows with their places in all of the log, and the hashes of their users."""
    users = np.random.default_rng(number).integers(0, 1 << 63, ROWS, dtype=np.uint64)
    places = number * ROWS + np.arange(ROWS)
    keys = pa.array([str(user) for user in users], pa.large_string())
    return pa.RecordBatch.from_arrays([keys, pa.array(places)], ["user", "place"]), users


@pytest.mark.parametrize("waiting", [1, 3 * ROWS, 1 << 18])
@pytest.mark.parametrize("partitions", [1, 7, 5_000])
def test_each_partition_has_its_rows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int, waiting: int
) -> None:
    monkeypatch.setattr(shuffle, "_WAITING_ROWS", waiting)
    pieces: dict[int, list[PartitionFile]] = {}
    for ordinal in (1, 0):  # units end in any order
        with PartitionWriter(str(tmp_path), partitions, ordinal) as writer:
            for number in range(BATCHES):
                writer.write(*batch_of(BATCHES * ordinal + number))
            # One file a unit, however many the partitions.
            assert len(os.listdir(tmp_path)) <= 2 - ordinal
        for partition, piece in writer.pieces:
            pieces.setdefault(partition, []).append(piece)
    assert len(os.listdir(tmp_path)) == 2
    for partition in range(min(partitions, 100)):
        expected = [
            row
            for number in range(2 * BATCHES)
            for batch, hashes in [batch_of(number)]
            for row in batch.filter(
                pa.array(hashes % np.uint64(partitions) == partition)
            ).to_pylist()
        ]
        found = read_pieces(pieces.get(partition, []))
        assert ([] if found is None else found.to_pylist()) == expected
    rows = sum(len(read_pieces(each) or []) for each in pieces.values())
    assert rows == 2 * BATCHES * ROWS


def test_a_unit_without_rows_writes_no_file(tmp_path: Path) -> None:
    with PartitionWriter(str(tmp_path), 3, 0) as writer:
        empty, hashes = batch_of(0)
        writer.write(empty.slice(0, 0), hashes[:0])
    assert writer.pieces == []
    assert not os.listdir(tmp_path)


def test_a_unit_that_failed_closes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "_WAITING_ROWS", 1)
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.suppress(ValueError), PartitionWriter(str(tmp_path), 3, 0) as writer:
        writer.write(*batch_of(0))
        raise ValueError
    assert len(os.listdir("/proc/self/fd")) == before
