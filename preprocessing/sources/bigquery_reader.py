"""BigQuery tables as record batches, behind the extra ``gcp``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from preprocessing.base.errors import LongtailError


def _client() -> Any:
    try:
        from google.cloud import bigquery  # optional dependency
    except ImportError as error:
        raise LongtailError(
            "reading BigQuery needs the extra 'gcp': pip install 'longtail[gcp]'"
        ) from error
    try:
        return bigquery.Client()
    except Exception as error:
        raise LongtailError(
            f"no access to BigQuery ({error}): run 'gcloud auth application-default login' or set a project"
        ) from error


def describe(table: str) -> tuple[list[str], int]:
    """Column names and number of rows of ``project.dataset.table``.

    Raises:
      LongtailError: the extra is not installed, or the table cannot be reached.
    """
    found = _found(table)
    return [field.name for field in found.schema], int(found.num_rows)


def state(table: str) -> list[Any]:
    """Rows of a table and when it was last changed: what tells new data without reading them.

    Raises:
      LongtailError: the extra is not installed, or the table cannot be reached.
    """
    found = _found(table)
    return [int(found.num_rows), found.modified.isoformat()]


def _found(table: str) -> Any:
    client = _client()
    try:
        found = client.get_table(table)
    except Exception as error:
        raise LongtailError(f"cannot read the BigQuery table {table}: {error}") from error
    if found.num_rows is None:
        raise LongtailError(
            f"cannot read {table} of BigQuery: expected a table, received {found.table_type or 'a view'}: "
            "write it to a table"
        )
    return found


def read(table: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The wanted columns, page by page.

    Raises:
      LongtailError: the table cannot be reached or read.
    """
    client = _client()
    try:
        source = client.get_table(table)
        selected = [field for field in source.schema if field.name in columns]
        for batch in client.list_rows(source, selected_fields=selected).to_arrow_iterable():
            arrays = [batch.column(batch.schema.get_field_index(name)) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, columns)
    except Exception as error:
        raise LongtailError(f"cannot read the BigQuery table {table}: {error}") from error
