"""Converts CSV text to columns of strings by Arrow, once ``csv_lines`` has judged its lines."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.csv

from preprocessing.base.errors import LongtailError


def convert(
    text: bytes, delimiter: str, fields: int, wanted: Mapping[str, int], where: str
) -> pa.RecordBatch:
    """Records that are whole to columns of strings; of bytes where one of them is not UTF-8.

    Args:
      text: the records; none of them is broken.
      delimiter: one character of ASCII.
      fields: of each record.
      wanted: the place of each column among them.
      where: the first of them stands, for errors.
    """
    own = [str(i) for i in range(fields)]  # names may occur twice where they are not read
    included = [own[at] for at in wanted.values()]
    found = None
    for kind in (pa.string(), pa.binary()):
        try:
            found = pa.csv.read_csv(
                pa.py_buffer(text),
                read_options=pa.csv.ReadOptions(
                    block_size=len(text) + 1, column_names=own, use_threads=False
                ),
                parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=included,
                    column_types=dict.fromkeys(own, kind),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            break
        except pa.ArrowInvalid as error:
            if pa.types.is_binary(kind):
                raise LongtailError(
                    f"{where}: cannot be read as CSV: {' '.join(str(error).split())}"
                ) from error
    assert found is not None  # read or raised
    arrays = [found[name].combine_chunks() for name in included]
    return pa.RecordBatch.from_arrays(arrays, list(wanted))
