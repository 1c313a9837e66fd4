"""How far an ablation is: a line a training, and on a terminal a bar below them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


class TrainingsBar:
    """Counts trainings and estimates the time left by the mean of those that are done."""

    def __init__(self, console: Console, total: int, seconds: Mapping[str, float]) -> None:
        """Takes the number of trainings, and seconds by run, which others fill."""
        self._console, self._total, self._done, self._seconds = console, total, 0, seconds
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, left="")

    def __enter__(self) -> TrainingsBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, what: str) -> None:
        """A training starts, or a record is read."""
        self._bar.update(self._task, description=what)

    def end(self, what: str, record: Mapping[str, Any], was_there: bool) -> None:
        """It is done."""
        self._done += 1
        left = f"about {minutes(self._left())} left" if self._done < self._total else ""
        self._bar.update(self._task, completed=self._done, left=left)
        if "failed" in record:
            told = f"failed: {record['failed']}"
        else:
            recall = max(value or 0.0 for value in record["validation"]["overall"])
            told = f"validation {recall:.4f}"
        took = "kept from before" if was_there else f"{record['seconds']:.0f} s"
        line = f"  [{self._done}/{self._total}] {what}: {told}, {took}"
        if left and not self._console.is_terminal:
            line += f"; {left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def skip(self, trainings: int) -> None:
        """So many are not needed any more."""
        self._total -= trainings
        self._bar.update(self._task, total=self._total)

    def _left(self) -> float:
        done = [s for name, s in self._seconds.items() if not name.startswith("baselines")]
        return (self._total - self._done) * sum(done) / max(len(done), 1)


def minutes(seconds: float) -> str:
    """A span for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
