"""How ``data/`` lies in TFX artifacts, and how a component gets it back as one directory.

Examples and transform graphs are TFX's own types; what else preprocessing writes, the catalogue with
item features, counts, mutual information, users' items and sample queries, is a plain `Dataset`: TFX
imports an artifact's class by its type's name on Vertex AI, where a name of ours would not be found.
The Trainer takes no artifacts but TFX's, so the transform graph names the other two.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailFailure
from preprocessing.base.locations import reachable

SPLITS = ("train", "validation", "test")
_PARTS = "longtail.json"
"""In the transform graph: where examples and item table are."""


def scatter(data_dir: Path, *, examples: str, transform_graph: str, item_table: str) -> None:
    """Moves a finished ``data/`` to the URIs of its artifacts; the directory is gone afterwards.

    Args:
      data_dir: finished preprocessing.
      examples: gets Split-train, Split-validation and Split-test, as TFX names them.
      transform_graph: gets the graph of the queries at its root, where TFX looks for it, and that
        of the items below ``item``.
      item_table: gets all the rest.
    """
    to_examples, to_graph = reachable(examples), reachable(transform_graph)
    for split in SPLITS:
        move_content(data_dir / "examples" / split, to_examples / f"Split-{split}")
    (data_dir / "examples").rmdir()
    move_content(data_dir / "transform_graph" / "query", to_graph)
    move_content(data_dir / "transform_graph" / "item", to_graph / "item")
    (data_dir / "transform_graph").rmdir()
    move_content(data_dir, reachable(item_table))
    parts = json.dumps({"examples": examples, "item_table": item_table})
    write_text_atomically(to_graph / _PARTS, parts + "\n")


def gather(transform_graph: str, directory: Path) -> Path:
    """The layout of ``data/`` in a new directory, by links.

    Args:
      transform_graph: URI of the artifact.
      directory: does not exist yet.

    Returns:
      `directory`.

    Raises:
      LongtailFailure: the transform graph is not of Longtail's preprocessing.
    """
    graph = reachable(transform_graph)
    if not (graph / _PARTS).is_file():
        raise LongtailFailure(f"{graph / _PARTS} is missing: is this Longtail's transform graph?")
    parts = json.loads((graph / _PARTS).read_text())
    _link(reachable(parts["item_table"]), directory)
    for split in SPLITS:
        source = reachable(parts["examples"]) / f"Split-{split}"
        _link(source, directory / "examples" / split)
    _link(graph, directory / "transform_graph" / "query")
    for name in ("item", _PARTS):
        (directory / "transform_graph" / "query" / name).unlink()
    _link(graph / "item", directory / "transform_graph" / "item")
    return directory


def move_content(source: Path, target: Path) -> None:
    """Moves all of a directory into one that may exist and be empty, as TFX makes it."""
    target.mkdir(parents=True, exist_ok=True)
    for child in source.iterdir():
        shutil.move(child, target / child.name)
    source.rmdir()


def _link(source: Path, target: Path) -> None:
    """A directory with links to the content: others add to it."""
    target.mkdir(parents=True, exist_ok=True)
    for child in source.iterdir():
        os.symlink(child.resolve(), target / child.name)
