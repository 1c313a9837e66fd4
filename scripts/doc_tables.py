"""Writes the tables of the documentation that say what a registry holds: `python scripts/doc_tables.py [--check]`.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`. With --check nothing is written; the exit code is 1 where a
table is not what the registry says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from serving.index.registry import INDEXES  # noqa: E402
from trainer.evaluation.baselines.registry import BASELINES  # noqa: E402
from trainer.losses.registry import LOSSES  # noqa: E402


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def losses() -> str:
    """What `loss.kind` may be."""
    head = (
        "`loss.kind`",
        "loss",
        "`loss.log_q`",
        "its own options",
        "`negatives.hardest` with",
        "source",
    )
    return _table(
        head,
        (
            (
                _code([name]),
                each.says,
                _code(each.log_q),
                _code(each.options),
                _code(each.hardest),
                each.source,
            )
            for name, each in LOSSES.items()
        ),
    )


def indexes() -> str:
    """What `export.index` may be."""
    return _table(
        ("`export.index`", "index", "its section"),
        (
            (_code([name]), each.says, _code([f"export.{each.section}"] if each.section else []))
            for name, each in INDEXES.items()
        ),
    )


def baselines() -> str:
    """What `evaluate.baselines` may list."""
    return _table(
        ("`evaluate.baselines`", "baseline"),
        ((_code([name]), each.says) for name, each in BASELINES.items()),
    )


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "losses": ("docs/negatives.md", losses),
    "indexes": ("docs/serving.md", indexes),
    "baselines": ("docs/artifacts.md", baselines),
}
"""Name of a table: the page that holds it, and what writes it."""


def main() -> int:
    """Write all tables, or with --check name those that are stale."""
    check, stale = "--check" in sys.argv[1:], []
    for name, (page, write) in TABLES.items():
        path = ROOT / page
        text = path.read_text()
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not place.search(text):
            print(f"error: {page}: missing <!-- {name} --> and <!-- /{name} -->", file=sys.stderr)
            return 2
        new = place.sub(rf"\g<1>{write()}\n\g<2>", text)
        if new != text:
            stale.append(f"{page} ({name})")
            if not check:
                path.write_text(new)
    if stale and check:
        print(
            f"error: stale: {', '.join(stale)}; run python scripts/doc_tables.py", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
