"""A small shop, really preprocessed, with an untrained model: every kind of feature that a request can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from rich.console import Console

from preprocessing.base.artifacts import write_manifest
from preprocessing.base.config_io import load_config
from preprocessing.base.progress import Stages
from preprocessing.run import preprocess
from serving.config import ServingSections
from serving.export.run import export
from tests.made_once import made_once
from trainer.loop.build import BEST_WEIGHTS, build_model

USERS, ITEMS, EVENTS = 40, 120, 1500
HISTORY = 5
K = 20
QUIET = Console(quiet=True)

FEATURES: list[dict[str, Any]] = [
    {"name": "user_id", "column": "user", "side": "query", "kind": "id", "dim": 8},
    {"name": "age", "side": "query", "kind": "numeric"},
    {"name": "interests", "side": "query", "kind": "multi", "dim": 4, "max_length": 2},
    {"name": "store", "side": "context", "kind": "categorical", "dim": 4},
    {"name": "item_id", "column": "item", "side": "item", "kind": "id", "dim": 8},
    {"name": "category", "side": "item", "kind": "categorical", "dim": 4},
    {"name": "tags", "side": "item", "kind": "multi", "weights_column": "tag_weights", "dim": 4},
    {"name": "price", "side": "item", "kind": "numeric", "buckets": 4, "dim": 4},
    {"name": "words", "column": "title", "side": "item", "kind": "text", "dim": 4},
    {"name": "past", "side": "query", "kind": "sequence", "shared_with": "item_id",
     "max_length": HISTORY},
]  # fmt: skip


class RecallData(NamedTuple):
    """Where everything lies."""

    config_path: Path
    data: Path
    model: Path

    def config(self, *overrides: str) -> ServingSections:
        return load_config(self.config_path, ServingSections, overrides)


def recall_data() -> RecallData:
    """Made once for all processes of the tests."""
    return _places(made_once("recall", _make))


def _places(root: Path) -> RecallData:
    return RecallData(root / "tiny.yaml", root / "work" / "data", root / "work" / "model")


def _make(root: Path) -> None:
    _write_sources(root)
    document = {
        "name": "tiny",
        "work_dir": str(root / "work"),
        "data": {
            "interactions": {"path": str(root / "log.csv")},
            "items": {"path": str(root / "items.csv")},
            "users": {"path": str(root / "users.csv")},
            "columns": {"user": "user", "item": "item", "timestamp": "time"},
            "item_title": ["title"],
        },
        "features": FEATURES,
        "towers": {"dim": 16},
        "export": {"k": K, "warmup_requests": 3},
    }
    (root / "tiny.yaml").write_text(yaml.safe_dump(document))
    found = _places(root)
    config = found.config()
    preprocess(config, found.data, stages=Stages(QUIET))
    write_untrained(config, found.data, found.model)


def exported() -> Path:
    """Its export as it stands, one for all processes."""
    shop = recall_data()

    def make(folder: Path) -> None:
        export(shop.config(), shop.data, shop.model, folder, console=QUIET)

    return made_once("recall_export", make) / "1"


def write_untrained(config: ServingSections, data_dir: Path, model_dir: Path) -> None:
    """A finished model/ whose weights are the initial ones."""
    (model_dir / BEST_WEIGHTS.parent).mkdir(parents=True)
    model = build_model(config, data_dir)
    model.weights_checkpoint().write(str(model_dir / BEST_WEIGHTS))
    write_manifest(model_dir, "untrained", {"step": "train"})


def _write_sources(root: Path) -> None:
    random = np.random.default_rng(0)

    def some(prefix: str, of: int, most: int) -> str:
        chosen = random.choice(of, random.integers(0, most + 1), replace=False)
        return "|".join(f"{prefix}{x}" for x in chosen)

    tags = [some("t", 9, 3) for _ in range(ITEMS)]
    items = {
        "item": [f"i{n}" for n in range(ITEMS)],
        "title": [f"Item number {n}" for n in range(ITEMS)],
        "category": [f"c{n % 7}" for n in range(ITEMS)],
        "tags": tags,
        "tag_weights": ["|".join("1.5" for _ in t.split("|")) if t else "" for t in tags],
        "price": [
            None if n % 9 == 0 else round(float(random.exponential(5)), 2) for n in range(ITEMS)
        ],
    }
    users = {
        "user": [f"u{n}" for n in range(USERS)],
        "age": [20 + n for n in range(USERS)],
        "interests": [some("x", 6, 3) for _ in range(USERS)],
    }
    log = {
        "user": [f"u{x}" for x in random.integers(0, USERS, EVENTS)],
        "item": [f"i{x}" for x in random.zipf(1.3, EVENTS) % ITEMS],
        "time": np.sort(random.integers(1_600_000_000, 1_610_000_000, EVENTS)),
        "store": [f"s{x}" for x in random.integers(0, 4, EVENTS)],
    }
    for name, table in (("items", items), ("users", users), ("log", log)):
        pd.DataFrame(table).to_csv(root / f"{name}.csv", index=False)
