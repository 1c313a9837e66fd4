"""`longtail init`: from the files to a configuration that was validated, with what was guessed and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from pipelines.config import RunConfig
from pipelines.init import asking, build
from pipelines.init.document import render, told
from pipelines.init.form import find_form
from pipelines.init.guess import Guesses
from pipelines.init.sample import look
from preprocessing.base.artifacts import write_new
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError

_TABLE_ROWS = 1_000_000
"""Rows of the tables of items and users that are looked at."""


@dataclass(frozen=True)
class Files:
    """The tables as the user names them: files, patterns or folders."""

    interactions: str
    items: str | None = None
    users: str | None = None

    @property
    def command(self) -> str:
        """The options that name them."""
        named = (
            ("--interactions", self.interactions),
            ("--items", self.items),
            ("--users", self.users),
        )
        return " ".join(f"{option} {path}" for option, path in named if path)


def init(
    files: Files,
    given: Mapping[str, str],
    out: Path | None,
    console: Console,
    *,
    interactive: bool = False,
) -> Path:
    """Look, guess, and write the configuration.

    Args:
      files: the tables.
      given: columns that the user named, by role: user, item, timestamp, reward.
      out: the file to write, default: the log's name with ``.yaml`` in the present folder.
      console: for what was guessed.
      interactive: ask for each role, with the guess as default.

    Returns:
      The file that was written.

    Raises:
      LongtailError: a file cannot be read, a role cannot be told, or the file to write is there already.
    """
    name = build.name_of(files.interactions)
    path = out or Path(f"{name}.yaml")
    if path.exists():
        raise LongtailError(
            f"{path} is there already and is not replaced: give another file with --out FILE"
        )
    with console.status("looking at the files"):
        log = look(find_form(files.interactions))
        items = look(find_form(files.items), _TABLE_ROWS) if files.items else None
        users = look(find_form(files.users), _TABLE_ROWS) if files.users else None
        tables = build.Tables(log, items, users)
        found = build.find(tables, given)
    answers = asking.ask(found.candidates, console) if interactive else {}
    with console.status("counting the log"):
        guesses = build.guess(name, tables, found, answers)
    document = render(guesses, _head(files, log.size))
    parse_config(yaml.safe_load(document), RunConfig, str(path))
    _tell(guesses, console)
    write_new(path, document.encode())
    return path


def _head(files: Files, size: str) -> list[str]:
    return [
        f"Written by: longtail init {files.command}",
        f"The log has {size}. Every value is a guess, with its reason: change what you know better.",
    ]


def _tell(guesses: Guesses, console: Console) -> None:
    """One line a guess: key, value and reason."""
    for guess in guesses.made:
        if guess.reason:
            key, value, reason = told(guess)
            line = Text.assemble(f"  {key}: {value}  ", (reason, "dim"))
            console.print(line, soft_wrap=True)
    for each in guesses.left_out:
        line = Text.assemble(f"  left out: {each.table}, {each.column}  ", (each.reason, "dim"))
        console.print(line, soft_wrap=True)
