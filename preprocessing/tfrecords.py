"""TFRecord files of ``tf.train.Example`` as record batches, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from preprocessing.errors import LongtailError


def read_examples(path: str, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Record batches of the first value of each feature; a missing feature is null.

    Raises:
      LongtailError: the file is no TFRecord of ``tf.train.Example``.
    """
    decoder = ExamplesToRecordBatchDecoder()
    for records in _batches(path, batch_rows):
        decoded = _decode(decoder, records, path)
        arrays = []
        for name in columns:
            found = decoded.schema.get_field_index(name)
            if found < 0:
                arrays.append(pa.nulls(decoded.num_rows, pa.string()))
                continue
            column = decoded.column(found)
            if pa.types.is_null(column.type):
                arrays.append(pa.nulls(decoded.num_rows, pa.string()))
            elif pa.types.is_binary(column.type.value_type) or pa.types.is_large_binary(
                column.type.value_type
            ):
                arrays.append(column.cast(pa.large_list(pa.large_string())))
            else:
                arrays.append(column)
        yield pa.RecordBatch.from_arrays(arrays, columns)


def feature_names(path: str, rows: int) -> list[str]:
    """The features that the first rows of a file have."""
    head = next(_batches(path, rows), None)
    return list(_decode(ExamplesToRecordBatchDecoder(), head, path).schema.names) if head else []


def write_examples(path: str | Path, batch: pa.RecordBatch) -> int:
    """Write the rows of a record batch as ``tf.train.Example``; returns their number."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RecordBatchToExamplesEncoder(None).encode(batch):
            writer.write(record)
    return int(batch.num_rows)


def _batches(path: str, rows: int) -> Iterator[list[bytes]]:
    compression = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression_type=compression).batch(rows)
    try:
        for batch in records:
            yield batch.numpy().tolist()
    except tf.errors.DataLossError as error:
        raise LongtailError(
            f"{path} is not a TFRecord file of tf.train.Example: {error.message}"
        ) from error


def _decode(
    decoder: ExamplesToRecordBatchDecoder, records: list[bytes], path: str
) -> pa.RecordBatch:
    try:
        return decoder.DecodeBatch(records)
    except Exception as error:
        raise LongtailError(
            f"{path} is not a TFRecord file of tf.train.Example: {error}"
        ) from error
