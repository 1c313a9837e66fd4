"""Where the blocks of records of a TFRecord file begin, so that a reader may start anywhere.

Beside ``examples/SPLIT/part-*.tfrecord`` lies ``example_blocks/SPLIT/part-*.npy``: int64, the number of records, where
each block of ``BLOCK`` records begins, and the size of the file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import numpy as np

BLOCK = 64
"""Records that are read together: some 10 KB."""
FRAMING = 16
"""Bytes of a TFRecord around its content: length, its checksum, the content's checksum."""


def path_of(examples: str) -> str:
    """Where the blocks of a file of examples are listed."""
    folder, name = posixpath.split(examples)  # of this machine or of a bucket
    above, split = posixpath.split(folder)
    own = f"{name.removesuffix('.tfrecord')}.npy"
    return posixpath.join(posixpath.dirname(above), "example_blocks", split, own)


def write(examples: str, sizes: Sequence[int]) -> None:
    """Lists the blocks of a file of examples by the sizes [records] of its contents."""
    from apache_beam.io.filesystems import FileSystems  # training reads blocks, and needs no Beam

    ends = np.cumsum([0, *sizes]) + FRAMING * np.arange(len(sizes) + 1)
    listed = np.concatenate([[len(sizes)], ends[:-1][::BLOCK], ends[-1:]]).astype(np.int64)
    with FileSystems.create(path_of(examples)) as out:
        np.save(out, listed)
