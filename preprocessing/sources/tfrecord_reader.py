"""TFRecord files of ``tf.train.Example`` as record batches, and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf.message import DecodeError
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from preprocessing.base.errors import LongtailError
from preprocessing.sources import input_files
from preprocessing.sources.readable_text import as_text
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

_HEAD, _CHECKSUM, _LONGEST = 12, 4, 1 << 31
"""Bytes: length with its checksum, checksum, of the largest message of Protocol Buffers."""


def read_examples(
    path: str, ordinal: int, columns: list[str], batch_rows: int, outcomes: RowOutcomes
) -> Iterator[Rows]:
    """The values of each feature as lists; a missing feature is null.

    Raises:
      LongtailError: the file is no TFRecord, or a feature holds numbers in some examples and bytes in others.
    """
    number, types = 0, dict[str, pa.DataType]()
    for records in _batches(path, batch_rows):
        numbers = np.arange(number, number + len(records))
        number += len(records)
        good = [_is_example(record) for record in records]
        for at in np.flatnonzero(np.invert(good)):
            place = {"source": path, "row": int(numbers[at]) + 1, "detail": "no tf.train.Example"}
            text = records[at].decode("utf-8", "replace")
            outcomes.malformed(ordinal, int(numbers[at]), place, text)
        if not any(good):
            continue
        decoded = _decode([r for r, is_good in zip(records, good, strict=True) if is_good], path)
        arrays = []
        for name in columns:
            found = decoded.schema.get_field_index(name)
            column = pa.nulls(decoded.num_rows) if found < 0 else decoded.column(found)
            if pa.types.is_null(column.type):
                column = pa.nulls(decoded.num_rows, pa.string())
            elif types.setdefault(name, column.type) != column.type:
                raise LongtailError(
                    f"{path}: expected the feature '{name}' to be {types[name].value_type} as in its first examples, "
                    f"received {column.type.value_type} within examples {numbers[0] + 1} to {number}"
                )
            arrays.append(column)
        batch = pa.RecordBatch.from_arrays(arrays, columns)
        yield as_text(Rows(batch, path, ordinal, numbers[np.array(good)]), outcomes)


def feature_names(path: str, rows: int) -> list[str]:
    """The features that the first examples of a file have."""
    head = [record for record in next(_batches(path, rows), []) if _is_example(record)]
    return list(_decode(head, path).schema.names) if head else []


def write_examples(path: str | Path, batch: pa.RecordBatch) -> list[int]:
    """Write the rows of a record batch as ``tf.train.Example``; returns the bytes of each."""
    records = RecordBatchToExamplesEncoder(None).encode(batch)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return [len(record) for record in records]


def _batches(path: str, rows: int) -> Iterator[list[bytes]]:
    if path.endswith(".gz"):
        # TensorFlow takes the end of a gzip file that is cut off for its end.
        with input_files.opened(path) as stream:
            records = _records(stream, path)
            while batch := list(islice(records, rows)):
                yield batch
        return
    try:
        for found in tf.data.TFRecordDataset(path).batch(rows):
            yield found.numpy().tolist()
    except tf.errors.OpError as error:
        raise LongtailError(
            f"{path} is not a TFRecord file of tf.train.Example, or it is cut off: {error.message}"
        ) from error


def _records(stream: IO[bytes], path: str) -> Iterator[bytes]:
    """Records by their lengths; gzip has checked the bytes."""
    while head := stream.read(_HEAD):
        length = int.from_bytes(head[:8], "little")
        record = stream.read(length) if length < _LONGEST else b""
        if len(record) < length or len(stream.read(_CHECKSUM)) < _CHECKSUM:
            raise LongtailError(
                f"{path} is not a TFRecord file of tf.train.Example, or it is cut off"
            )
        yield record


def _is_example(record: bytes) -> bool:
    try:
        tf.train.Example.FromString(record)
    except DecodeError:
        return False
    return True


def _decode(records: list[bytes], path: str) -> pa.RecordBatch:
    try:
        return ExamplesToRecordBatchDecoder().DecodeBatch(records)
    except Exception as error:
        raise LongtailError(
            f"{path} is not a TFRecord file of tf.train.Example: {' '.join(str(error).split())}"
        ) from error
