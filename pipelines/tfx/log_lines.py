"""TFX's log, which holds every proto of every component, as one line a component."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import logging as absl_logging
from rich.console import Console
from rich.markup import escape

LOG = logging.getLogger("longtail.pipeline")
"""What components have to say to people: gates, anomalies."""
_EVENT = re.compile(r"Component (\S+) is (running|finished)\.")
_CACHED = re.compile(r"A cached execution \d+ is used")


class _Lines(logging.Handler):
    """Components as they begin and end, and what they say through `LOG`."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console, self._started, self._cached = console, 0.0, False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        event = _EVENT.search(message)
        if event and event[2] == "running":
            self._started, self._cached = time.perf_counter(), False
            self._console.print(f"  {event[1]} ...", highlight=False, soft_wrap=True)
        elif event:
            how = (
                "from the cache" if self._cached else f"{time.perf_counter() - self._started:.1f} s"
            )
            self._console.print(
                f"  [green]✓[/green] {event[1]} {how}", highlight=False, soft_wrap=True
            )
        elif _CACHED.search(message):
            self._cached = True
        elif record.name == LOG.name:
            colour = "red" if record.levelno >= logging.ERROR else "dim"
            self._console.print(
                f"    [{colour}]{escape(message)}[/{colour}]", highlight=False, soft_wrap=True
            )


@contextmanager
def shown(console: Console, log_file: Path) -> Iterator[None]:
    """While the block runs TFX's whole log goes to a file, and its gist to the console."""
    absl, level = absl_logging.get_absl_logger(), absl_logging.get_verbosity()
    whole = logging.FileHandler(log_file)
    whole.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handlers: list[logging.Handler] = [whole, _Lines(console)]
    before = [(logger, logger.handlers, logger.propagate) for logger in (absl, LOG)]
    for logger, _, _ in before:
        logger.handlers, logger.propagate = handlers, False
    LOG.setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        for logger, own, propagates in before:
            logger.handlers, logger.propagate = own, propagates
        absl_logging.set_verbosity(level)
        whole.close()
