"""TFRecord files of ``tf.train.Example``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from preprocessing.sources.formats.base import Format, Unit, require
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig

_PEEK_ROWS = 64
_BYTES_PER_ROW, _PACKED = 80, 5
"""For an estimate: of a row, and by how much compressed files are smaller."""


class TFRecord(Format):
    """See ``tfrecord_reader``."""

    name: ClassVar[str] = "tfrecord"
    endings: ClassVar[tuple[str, ...]] = (".tfrecord", ".tfrecord.gz")
    summary: ClassVar[str] = "`tf.train.Example`"

    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """Reads the first examples of each file."""
        from preprocessing.sources import input_files, tfrecord_reader

        rows = 0
        for path in files:
            require(columns, tfrecord_reader.feature_names(path, _PEEK_ROWS), path)
            packed = _PACKED if path.endswith(".gz") else 1
            rows += -(-input_files.size(path) * packed // _BYTES_PER_ROW)
        return [Unit(table, path, at) for at, path in enumerate(files)], rows

    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """The features of the first examples."""
        from preprocessing.sources import tfrecord_reader

        return tfrecord_reader.feature_names(files[0], _PEEK_ROWS)

    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """Batch by batch."""
        from preprocessing.sources import tfrecord_reader

        yield from tfrecord_reader.read_examples(
            unit.path, unit.ordinal, columns, batch_rows, outcomes
        )
