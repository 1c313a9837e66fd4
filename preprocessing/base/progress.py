"""One line a stage: what runs, for how long, and how far, on a terminal and in a log file alike."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_POLL_SECONDS = 0.5


class Stages:
    """Shows the stages of a step and remembers the seconds of each."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=not sys.stdout.isatty() and sys.stderr.isatty())
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(
        self, title: str, done: Callable[[], int] | None = None, total: int | None = None
    ) -> Iterator[None]:
        """Show a stage while the block runs.

        Args:
          title: what is being done.
          done: how much of ``total`` is finished, asked twice a second.
          total: pieces of work, None where it is not known.
        """
        start = time.perf_counter()
        if not self.console.is_terminal:
            self.console.print(f"  {title} ...", highlight=False)
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        ]
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bar:
            task = bar.add_task(title, total=total if done else None)
            stop = threading.Event()

            def follow() -> None:
                while done is not None and not stop.wait(_POLL_SECONDS):
                    bar.update(task, completed=done())

            thread = threading.Thread(target=follow, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()
        self.seconds[title] = round(time.perf_counter() - start, 1)
        self.console.print(
            f"  [green]✓[/green] {title} [dim]{self.seconds[title]:.1f} s[/dim]", highlight=False
        )
