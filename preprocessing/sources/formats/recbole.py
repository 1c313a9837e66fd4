"""The atomic files of RecBole: tab-separated text whose header says ``name:type``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from preprocessing.sources.formats.csv import Csv
from preprocessing.sources.formats.text import compressed_too

if TYPE_CHECKING:
    from preprocessing.sources.delimited import Dialect
    from preprocessing.table_config import TableConfig

TYPES = ("token", "token_seq", "float", "float_seq")


class RecBole(Csv):
    """Columns have the names without the types; nothing is quoted.

    See https://recbole.io/docs/user_guide/data/atomic_files.html.
    """

    name: ClassVar[str] = "recbole"
    endings: ClassVar[tuple[str, ...]] = compressed_too(".inter", ".item", ".user")
    options: ClassVar[frozenset[str]] = frozenset({"delimiter", "encoding"})
    summary: ClassVar[str] = (
        "the atomic files of RecBole; columns have the names of the header without `:token` or `:float`, the delimiter "
        "is a tab or `delimiter`, and quotes are text"
    )

    def dialect(self, table: TableConfig, path: str) -> Dialect:
        """Without quotes, and with the types cut from the names."""
        from preprocessing.sources.delimited import Dialect

        return Dialect(delimiter=table.delimiter or "\t", quotes=False, suffixes=TYPES)
