"""Writes the tables of the documentation that the code knows: `python scripts/doc_tables.py [--check]`.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`. With --check nothing is written; the exit code is 1 where a
table is not what the code says: the registries, and the options of the configuration.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipelines.config import RunConfig  # noqa: E402
from serving.index.registry import INDEXES  # noqa: E402
from trainer.evaluation.baselines.registry import BASELINES  # noqa: E402
from trainer.losses.registry import LOSSES  # noqa: E402
from trainer.towers.history.registry import ENCODERS  # noqa: E402

OPTIONS = "docs/options.md"


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


def options() -> str:
    """Every option of the configuration, a table for each section."""
    parts = []
    for section, field in RunConfig.model_fields.items():
        rows = list(_options(section, field))
        table = _table(("option", "default", "what it says"), rows)
        parts.append(f"## `{section}`\n\n{table}")
    return "\n\n".join(parts)


def _options(path: str, field: FieldInfo) -> Iterator[tuple[str, str, str]]:
    """The rows of a field, and of what lies below it."""
    nested = _models(field.annotation)
    listed = get_origin(field.annotation) in (list, tuple)
    if not nested or field.description:
        if not field.description:
            sys.exit(f"error: {path}: the field has no description, which {OPTIONS} would show")
        says = field.description.replace("|", "\\|")
        choices = _choices(
            TypeAdapter(Annotated[(field.annotation, path, *field.metadata)]).json_schema()
        )
        yield (
            _code([path]),
            _default(field),
            f"{says}; {' or '.join(f'`{each}`' for each in choices)}" if choices else says,
        )
    for model in nested:
        for name, each in model.model_fields.items():
            yield from _options(f"{path}{'[]' if listed else ''}.{name}", each)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _choices(schema: Any) -> list[str]:
    """The names that a value may be, wherever they stand in its schema."""
    if isinstance(schema, dict):
        own = [str(each) for each in schema.get("enum", ())]
        return own + [name for part in schema.values() for name in _choices(part)]
    if isinstance(schema, list):
        return [name for part in schema for name in _choices(part)]
    return []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "none"
    return f"`{json.dumps(value, default=str)}`"


def encoders() -> str:
    """What `towers.history.encoder` may be."""
    return _table(
        ("`towers.history.encoder`", "the history becomes", "its own options"),
        ((_code([name]), each.says, _code(each.options)) for name, each in ENCODERS.items()),
    )


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "losses": ("docs/negatives.md", losses),
    "encoders": ("docs/your_data.md", encoders),
    "indexes": ("docs/serving.md", indexes),
    "baselines": ("docs/artifacts.md", baselines),
    "options": (OPTIONS, options),
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
        print(f"error: stale: {', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
