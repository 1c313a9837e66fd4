"""What a format of tables is: its endings, the options that it reads, how it is cut in units and read."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from preprocessing.base.errors import LongtailError
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig

_SHOWN, _LONGEST = 50, 100
"""Names of columns, and characters of one, in an error: text that is no table may hold any."""


@dataclass(frozen=True)
class Unit:
    """A piece of a table that one worker reads."""

    table: TableConfig
    path: str
    ordinal: int = 0
    part: Any = None
    """Which piece of the file, or what the format has learned of the table; hashable, and read by the format only."""


class Format(ABC):
    """A form of tables. The configuration imports every format, so heavy libraries are imported by the methods."""

    name: ClassVar[str]
    """As ``format`` of a table has it."""
    endings: ClassVar[tuple[str, ...]] = ()
    """Of files that are read so where ``format`` is not given."""
    options: ClassVar[frozenset[str]] = frozenset()
    """The keys of a table, beside ``path`` and ``format``, that are read; others are refused."""
    in_files: ClassVar[bool] = True
    """Whether ``path`` means files, and not a table of a service."""
    summary: ClassVar[str]
    """What it is, for the table of formats in the documentation."""

    def check(self, table: TableConfig) -> None:  # noqa: B027  most have nothing to check
        """Refuse options that contradict each other.

        Raises:
          ValueError: they do; the configuration is refused.
        """

    @abstractmethod
    def plan(
        self, table: TableConfig, files: list[str], columns: list[str]
    ) -> tuple[list[Unit], int]:
        """Check a table before any work and cut it in units.

        Args:
          table: of this format.
          files: that the path means, without those of zero bytes; none where the table is not in files.
          columns: that will be read.

        Returns:
          The units, and the number of rows or an estimate of it.

        Raises:
          LongtailError: a file is not of the format, or a column is missing.
        """

    @abstractmethod
    def read(
        self, unit: Unit, columns: list[str], batch_rows: int, outcomes: RowOutcomes
    ) -> Iterator[Rows]:
        """The rows of a unit with the wanted columns; see ``readers.read_unit``."""

    @abstractmethod
    def columns(self, table: TableConfig, files: list[str]) -> list[str]:
        """The names of the columns that there are, for those who do not know them yet; arguments as of ``plan``."""

    def state(self, table: TableConfig) -> list[Any]:
        """What tells a changed table, where it is not in files, without reading it."""
        raise NotImplementedError(f"the files of a table of format {self.name} have a state each")


def require(columns: Iterable[str], present: Iterable[str], path: str) -> None:
    """Whether each of the columns is there, once.

    Raises:
      LongtailError: one is not; names the file and the column that is closest.
    """
    available = list(present)
    for column in columns:
        if column not in available:
            short = [name for name in available if len(name) <= _LONGEST]
            close = difflib.get_close_matches(column, short, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            received = ", ".join(name[:_LONGEST] for name in available[:_SHOWN])
            more = f" and {len(available) - _SHOWN:,} more" if len(available) > _SHOWN else ""
            raise LongtailError(
                f"{path}: expected column '{column}', received {received}{more}{hint}"
            )
        if available.count(column) > 1:
            raise LongtailError(
                f"{path}: expected one column '{column}', received {available.count(column)} of that name"
            )
