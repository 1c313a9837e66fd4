"""JSON, one object a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from preprocessing.sources.formats.base import Unit, require
from preprocessing.sources.formats.text import TextFormat, compressed_too
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig


class JsonLines(TextFormat):
    """See ``json_lines``. The part of a unit is the kind of value of each column, by the first rows of all files."""

    name: ClassVar[str] = "jsonl"
    endings: ClassVar[tuple[str, ...]] = compressed_too(".jsonl", ".ndjson", ".json")
    bytes_per_row: ClassVar[int] = 120
    summary: ClassVar[str] = (
        "JSON with one object a line; a key is a column, a list several values, `null` or an absent key a missing one"
    )

    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """Reads the first rows of each file; a key that is rare may be absent from some of them."""
        from preprocessing.sources import json_lines
        from preprocessing.sources.json_objects import KINDS
        from preprocessing.sources.text_stream import opened_text

        names: dict[str, None] = {}
        votes: dict[str, Counter[str]] = {column: Counter() for column in columns}
        for path in files:
            with opened_text(path, table.encoding) as stream:
                head = json_lines.head(stream, path)
            for row in head:
                names.update(dict.fromkeys(row))
                for column in columns:
                    if kind := KINDS.get(type(row.get(column))):
                        votes[column][kind] += 1
        require(columns, names, table.path)
        kinds = tuple((each, found.most_common(1)[0][0]) for each, found in votes.items() if found)
        units = [Unit(table, path, at, kinds) for at, path in enumerate(files)]
        return units, sum(self.estimate(path) for path in files)

    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """The keys of the first rows of each file."""
        from preprocessing.sources import json_lines
        from preprocessing.sources.text_stream import opened_text

        names: dict[str, None] = {}
        for path in files:
            with opened_text(path, table.encoding) as stream:
                for row in json_lines.head(stream, path):
                    names.update(dict.fromkeys(row))
        return list(names)

    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """Batch by batch."""
        from preprocessing.sources import json_lines
        from preprocessing.sources.text_stream import opened_text

        with opened_text(unit.path, unit.table.encoding) as stream:
            yield from json_lines.read(
                stream, dict(unit.part), (unit.path, unit.ordinal), columns, batch_rows, outcomes
            )
