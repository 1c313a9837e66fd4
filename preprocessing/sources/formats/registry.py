"""Every format by the name that ``format`` of a table knows it by: one file and one line for a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocessing.sources.formats.base import Format
from preprocessing.sources.formats.bigquery import BigQuery
from preprocessing.sources.formats.csv import Csv
from preprocessing.sources.formats.jsonl import JsonLines
from preprocessing.sources.formats.parquet import Parquet
from preprocessing.sources.formats.recbole import RecBole
from preprocessing.sources.formats.tfrecord import TFRecord

if TYPE_CHECKING:
    from preprocessing.table_config import TableConfig

FORMATS: dict[str, Format] = {
    each.name: each for each in (Csv(), RecBole(), JsonLines(), Parquet(), TFRecord(), BigQuery())
}
"""In the order of the documentation."""
ENDINGS: dict[str, str] = {
    ending: name for name, each in FORMATS.items() for ending in each.endings
}


def format_of(path: str) -> str | None:
    """The name of the format of a file by its ending."""
    return next((name for ending, name in ENDINGS.items() if path.endswith(ending)), None)


def check_options(table: TableConfig, name: str) -> None:
    """Refuse options of a table that its format does not read.

    Args:
      table: whose options they are.
      name: of its format.

    Raises:
      ValueError: an option would be ignored, or options contradict each other.
    """
    form = FORMATS[name]
    for option in sorted({option for each in FORMATS.values() for option in each.options}):
        is_given = getattr(table, option) != type(table).model_fields[option].default
        if is_given and option not in form.options:
            readers = [each.name for each in FORMATS.values() if option in each.options]
            raise ValueError(
                f"{option} is read of format {' or '.join(readers)} alone, and '{table.path}' is of format "
                f"{name}: leave {option} out, or set 'format'"
            )
    form.check(table)


def table_of_formats() -> str:
    """The rows of the documentation's table, in Markdown."""
    lines = ["| `format` | endings | options | read as |", "|---|---|---|---|"]
    for name, each in FORMATS.items():
        cells = (f"`{name}`", _endings(each), _listed(sorted(each.options)), each.summary)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _endings(form: Format) -> str:
    """Compressed ones are named once."""
    plain = [e for e in form.endings if e.count(".") == 1]
    packed = list(dict.fromkeys(e[e.index(".", 1) :] for e in form.endings if e not in plain))
    also = f", each also with {_listed(packed)}" if packed else ""
    return (_listed(plain) or "none") + also


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
