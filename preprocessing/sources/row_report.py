"""What is said of the rows of a source: lists beside the data, a line on the console, an error above the limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from preprocessing.base.errors import LongtailError
from preprocessing.config import DataConfig
from preprocessing.sources.feature_values import warnings
from preprocessing.sources.row_outcomes import RowOutcomes

FOLDERS = ("rejected", "noted")
"""Of ``data/``: a file a source, which lists the first rows of each reason."""


def report(outcomes: RowOutcomes, path: str, out: Path, limit: float, console: Console) -> None:
    """List and tell the rows of a source that were rejected or noted.

    Args:
      outcomes: of all rows of the source.
      path: where the configuration says that it lies.
      out: the artifact's directory; its ``FOLDERS`` are there.
      limit: the share of rows that may be rejected.
      console: for people.

    Raises:
      LongtailError: the source has no rows, or too many of them were rejected.
      LongtailFailure: the counts do not add up.
    """
    outcomes.check()
    if outcomes.rows == 0:
        raise LongtailError(f"{path} holds no rows: expected at least one")
    for folder in FOLDERS:
        entries = outcomes.entries(folder)
        if entries:
            lines = "".join(json.dumps(entry, default=str) + "\n" for entry in entries)
            (out / folder / f"{outcomes.source}.jsonl").write_text(lines, encoding="utf-8")
    rejected, noted = sum(outcomes.rejected.values()), sum(outcomes.noted.values())
    told = f"of {outcomes.rows:,} rows of the {outcomes.source}"
    if noted:
        console.print(
            f"  [yellow]noted {noted:,} {told}[/yellow], which stay: {_reasons(outcomes.noted)}",
            highlight=False,
        )
    for warning in warnings(outcomes.features):
        console.print(f"  [yellow]{outcomes.source}[/yellow]: {warning}", highlight=False)
    if not rejected:
        return
    reasons = _reasons(outcomes.rejected)
    console.print(f"  [yellow]rejected {rejected:,} {told}[/yellow]: {reasons}", highlight=False)
    if rejected > limit * outcomes.rows:
        first = json.dumps(outcomes.entries("rejected")[0], default=str, ensure_ascii=False)
        raise LongtailError(
            f"rejected {rejected:,} {told} {path} ({reasons}), more than max_rejected_fraction={limit}; "
            f"the first: {first[:300]}"
        )


def report_users(counters: Mapping[str, int], data: DataConfig, console: Console) -> None:
    """Tell where the table of users knows nobody of the log: then their features are missing everywhere."""
    if data.users is not None and counters.get("users") and not counters.get("users_in_table"):
        console.print(
            f"  [yellow]users[/yellow]: none of the {counters['users']:,} users of the log is in {data.users.path}: "
            "their features are missing everywhere; compare the keys, and see data.user_key",
            highlight=False,
        )


def _reasons(counted: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counted.most_common())
