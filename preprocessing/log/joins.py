"""Joins what the workers wrote in pieces, a piece at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from preprocessing.features import FeatureList


def items(parts: Sequence[Path], catalogue: pa.Table, features: FeatureList, out: Path) -> None:
    """Write ``items.parquet`` in the order of the rows: keys and titles, then the transformed features.

    Args:
      parts: transformed items, in order.
      catalogue: ``item`` and ``title`` of the same rows.
      features: of the items; single values are unpacked from their lists.
      out: new directory.
    """
    out.mkdir()
    writer, at = None, 0
    for path in parts:
        part = pq.read_table(path)
        columns = {name: catalogue[name].slice(at, len(part)) for name in ("item", "title")}
        for feature in features:
            column = part[feature.name].combine_chunks()
            columns[feature.name] = column if feature.is_multivalued else column.flatten()
            if feature.weights_name:
                columns[feature.weights_name] = part[feature.weights_name]
        joined = pa.table(columns)
        writer = writer or _writer(out / "items.parquet", joined.schema)
        writer.write_table(joined)
        at += len(part)
    if writer is not None:
        writer.close()


def pairs(parts: Path, out: Path) -> dict[int, int]:
    """Write the user-item pairs of all partitions to one file, users numbered through.

    Returns:
      The number of the first user of each partition: with it an example finds its user among all.
    """
    writer, first = None, 0
    firsts: dict[int, int] = {}
    for path in sorted(parts.glob("part-*.parquet")):
        part = pq.read_table(path)
        firsts[int(path.stem.removeprefix("part-"))] = first
        users = part["user"].to_numpy() + first
        first = int(users.max(initial=first - 1)) + 1
        part = part.set_column(0, "user", pa.array(users))
        writer = writer or _writer(out, part.schema)
        writer.write_table(part)
    if writer is not None:
        writer.close()
    return firsts


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table to one file."""
    with _writer(path, table.schema) as writer:
        writer.write_table(table)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Without a file system Arrow takes a path with a colon, a blank or a ``%`` for a URI."""
    return pq.ParquetWriter(path, schema, filesystem=LocalFileSystem())
