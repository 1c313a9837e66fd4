"""Opens Parquet files and holds those of one table against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.base.errors import LongtailError
from preprocessing.sources import input_files


@contextmanager
def opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file.

    Raises:
      LongtailError: it is none.
    """
    with input_files.raw(path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise LongtailError(
                f"{path} is not a Parquet file ({' '.join(str(error).split())}): set 'format' or give the right file"
            ) from error
        yield file


def row_groups(
    paths: Iterable[str],
    columns: list[str],
    require: Callable[[list[str], list[str], str], None],
) -> dict[str, list[int]]:
    """The rows of each row group by file.

    Args:
      paths: files of one table.
      columns: the wanted ones.
      require: says of a file with other columns that it lacks one.

    Raises:
      LongtailError: a file is no Parquet, lacks a column or holds another kind of values in it.
    """
    found: dict[str, list[int]] = {}
    first: dict[str, tuple[str, str, str]] = {}
    for path in paths:
        with opened(path) as footer:
            schema = footer.schema_arrow
            require(columns, schema.names, path)
            for name in columns:
                kind = _kind(schema.field(name).type)
                one = first.setdefault(name, (kind, str(schema.field(name).type), path))
                if kind != one[0] and "null" not in (kind, one[0]):
                    raise LongtailError(
                        f"{path}: expected '{name}' to be {one[1]} as in {one[2]}, received "
                        f"{schema.field(name).type}: write the files of one table with the same types"
                    )
                if one[0] == "null":
                    first[name] = (kind, str(schema.field(name).type), path)
            groups = range(footer.num_row_groups)
            found[path] = [footer.metadata.row_group(group).num_rows for group in groups]
    return found


def _kind(column: pa.DataType) -> str:
    """What a type is for; files of one table may differ in width."""
    is_type = pa.types
    if is_type.is_dictionary(column):
        return _kind(column.value_type)
    if (
        is_type.is_list(column)
        or is_type.is_large_list(column)
        or is_type.is_fixed_size_list(column)
    ):
        return f"list of {_kind(column.value_type)}"
    if is_type.is_integer(column) or is_type.is_floating(column) or is_type.is_decimal(column):
        return "number"
    if is_type.is_string(column) or is_type.is_large_string(column):
        return "text"
    if is_type.is_binary(column) or is_type.is_large_binary(column):
        return "text"
    if is_type.is_timestamp(column) or is_type.is_date(column):
        return "time"
    return str(column)
