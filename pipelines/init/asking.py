"""What `--interactive` asks: the column of each role, with the guess as default."""

from __future__ import annotations

import typer
from rich.console import Console

from pipelines.init.roles import Candidates
from preprocessing.base.errors import LongtailError

_QUESTIONS = {
    "user": "column of the user",
    "item": "column of the item",
    "timestamp": "column of the time",
    "reward": "column of a rating or weight, empty for none",
}


def ask(found: Candidates, console: Console) -> dict[str, str]:
    """The answers by role; an answer that is no column is asked for again, an empty one of `reward` means none."""
    console.print(
        f"columns of {found.log}: {', '.join(found.profiles)}", highlight=False, markup=False
    )
    answers: dict[str, str] = {}
    for role, question in _QUESTIONS.items():
        default = _default(found, role)
        while True:
            shown = default if default is not None else ("" if role == "reward" else None)
            answer = str(typer.prompt(question, default=shown, err=True)).strip()
            if answer in found.profiles or (role == "reward" and not answer):
                break
            console.print(f"'{answer}' is no column of the file", highlight=False, markup=False)
        answers[role] = answer
    return answers


def _default(found: Candidates, role: str) -> str | None:
    if role == "reward":
        named = found.given.get(role)
        return named or (found.of[role][0].column if found.of[role] else None)
    try:
        return found.choose(role).column
    except LongtailError:
        return found.of[role][0].column if found.of[role] else None
