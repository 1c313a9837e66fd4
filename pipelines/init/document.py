"""The configuration as a YAML document in which every guess carries its reason as a comment."""

from __future__ import annotations

from typing import Any

import yaml

from pipelines.init.guess import Guess, Guesses

_WIDE = 110
"""Beyond so many characters a reason stands above its key."""
_TITLES = {
    "data": "Where the tables lie, and what their columns are.",
    "features": "The feature list: the only place where a column becomes part of the model.",
    "preprocess": "How the log is divided, and which interactions train.",
    "towers": "The model.",
    "prior": "Popularity at serving, in addition.",
    "loss": "What is minimised.",
    "negatives": "What counts as a negative.",
    "train": "The training loop.",
}


def render(guesses: Guesses, head: list[str]) -> str:
    """The document.

    Args:
      guesses: in their order; those of one section stand together.
      head: lines of the comment at its top.
    """
    lines = [f"# {line}".rstrip() for line in head]
    section = group = None
    for guess in guesses.made:
        top, *inner = guess.key.split(".")
        if section == "features" != top:
            lines += _left_out(guesses)
        if inner and top != section:
            lines += ["", f"# {_TITLES[top]}", f"{top}:"]
            group = None
        section = top
        if top == "features":
            lines += _with_reason(f"- {_flow(guess.value)}", guess.reason, "  ")
            continue
        if len(inner) > 1 and inner[0] != group:
            lines.append(f"  {inner[0]}:")
        group = inner[0] if len(inner) > 1 else None
        key = inner[-1] if inner else top
        lines += _with_reason(f"{key}: {_flow(guess.value)}", guess.reason, "  " * len(inner))
    if section == "features":
        lines += _left_out(guesses)
    return "\n".join(lines) + "\n"


def told(guess: Guess) -> tuple[str, str, str]:
    """Key, value and reason for the terminal."""
    value = guess.value
    if guess.key.startswith("features."):
        hidden = ("name", "side", "column")
        value = {key: each for key, each in value.items() if key not in hidden}
    return guess.key, _flow(value), guess.reason


def _left_out(guesses: Guesses) -> list[str]:
    if not guesses.left_out:
        return []
    listed = [f"  #   {each.table}, {each.column}: {each.reason}" for each in guesses.left_out]
    return ["  # Left out:", *listed]


def _with_reason(text: str, reason: str, indent: str) -> list[str]:
    if not reason:
        return [indent + text]
    if len(indent) + len(text) + len(reason) + 4 <= _WIDE:
        return [f"{indent}{text}  # {reason}"]
    return [f"{indent}# {reason}", indent + text]


def _flow(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
