"""Tiny logs and tables that the tests of `longtail init` write in many forms."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2024, 3, 1)


def events(rows: int = 600, users: int = 40, items: int = 60) -> list[dict[str, Any]]:
    """Events in order of time, of users and items whose keys are text."""
    random = np.random.default_rng(1)
    return [
        {
            "user": f"u{random.integers(users):03}",
            "item": f"i{random.integers(items):03}",
            "at": START + timedelta(hours=3 * n),
            "rating": int(random.integers(1, 6)),
        }
        for n in range(rows)
    ]


def write_lines(
    path: Path, rows: list[list[Any]], separator: str = ",", encoding: str = "utf-8"
) -> Path:
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))
    return path


def write_log(
    path: Path,
    names: tuple[str, ...] = ("user_id", "item_id", "rating", "timestamp"),
    separator: str = ",",
) -> Path:
    """User, item, rating and seconds since 1970 under the given names, in that order."""
    rows = [[e["user"], e["item"], e["rating"], int(e["at"].timestamp())] for e in events()]
    return write_lines(path, [list(names), *rows], separator)


def write_items(path: Path, key: str = "item_id", items: int = 60) -> Path:
    """A catalogue with a column of every kind, and columns that make no feature."""
    genres = ["Drama", "Comedy", "Horror", "War"]
    colours = ["red", "blue", "old", "new", "last", "first", "long", "dark"]
    places = ["house", "river", "king", "road", "night", "summer", "war", "garden"]
    rows = [
        [
            f"i{n:03}",
            f"The {colours[n % 8]} {places[n // 8]}",
            "|".join(sorted({genres[n % 4], genres[n % 3]})),
            f"brand{n % 5}",
            round(1.5 + n * 0.37, 2),
            "shop",
            f"https://example.org/{n}.jpg",
            "words " * 60 + str(n),
        ]
        for n in range(items)
    ]
    head = [key, "title", "genres", "brand", "price", "source", "image", "description"]
    return write_lines(path, [head, *rows], ";")
