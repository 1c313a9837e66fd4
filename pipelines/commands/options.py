"""Arguments that all commands share, and what of a command's work goes where."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override a value, e.g. loss.temperature=0.05"),
]
console = Console()
"""For progress: silent with `--quiet`, on stderr with `--json`."""


class Output:
    """Where the result of a command goes: a table for people, or one JSON document for scripts."""

    as_json = False

    @classmethod
    def choose(cls, *, quiet: bool, as_json: bool) -> None:
        """Take the options of this call; they hold for one process."""
        cls.as_json, console.quiet, console.stderr = as_json, quiet, as_json

    @classmethod
    def show(cls, result: Any, page: RenderableType | None = None) -> None:
        """Print the result of a command.

        Args:
          result: what JSON can hold; paths become text.
          page: the same for people; None where the progress has said it already.
        """
        if cls.as_json:
            json.dump(result, sys.stdout, default=str, allow_nan=False, indent=1)
            sys.stdout.write("\n")
        elif page is not None:
            Console(highlight=False).print(page)
