"""Three days of a shop, each with new orders, some with new customers and articles."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TASTES = 5
DAYS = {1: (4_000, 50, 60), 2: (5_000, 56, 65), 3: (6_000, 56, 65)}
"""Orders until the end of the day, customers and articles known by then."""


def write_sources(directory: Path, day: int) -> None:
    """The log until the end of a day, whose beginning is that of the day before, and the catalogue."""
    directory.mkdir()
    random, start = np.random.default_rng(3), datetime(2024, 5, 1)
    rows = []
    for first, last in ((0, 1), (1, 2), (2, 3)):
        begin = DAYS[first][0] if first else 0
        end, customers, articles = DAYS[last]
        for i in range(begin, end):
            customer = random.integers(customers)
            preference = customer % TASTES if random.random() < 0.9 else random.integers(TASTES)
            article = preference + TASTES * min(
                random.geometric(0.25) - 1 if i % 3 else random.integers(articles // TASTES),
                articles // TASTES - 1,
            )
            at = (start + timedelta(minutes=i)).isoformat()
            rows.append([f"C{customer:03}", f"A{article:03}", at])
    with (directory / "orders.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["customer", "article", "at"], *rows[: DAYS[day][0]]])
    catalogue = [{"article": f"A{n:03}", "colour": "rgb"[n % 3]} for n in range(DAYS[day][2])]
    # Another order each day: rows of the table are no names.
    catalogue = catalogue if day == 1 else catalogue[::-1]
    pq.write_table(pa.Table.from_pylist(catalogue), directory / "articles.parquet")


def document(root: Path, day: int, work_dir: Path) -> dict[str, Any]:
    """The configuration of a day; its sources are written below `root` the first time."""
    sources = root / f"sources-{day}"
    if not sources.exists():
        write_sources(sources, day)
    return {
        "name": "shop",
        "work_dir": str(work_dir),
        "data": {
            "interactions": {"path": str(sources / "orders.csv")},
            "items": {"path": str(sources / "articles.parquet")},
            "columns": {"user": "customer", "item": "article", "timestamp": "at"},
            "item_title": ["article"],
        },
        "features": [
            {"name": "customer", "side": "query", "kind": "id", "dim": 8},
            {"name": "bought", "side": "query", "kind": "sequence", "shared_with": "article"},
            {"name": "article", "side": "item", "kind": "id", "dim": 8},
            {"name": "colour", "side": "item", "kind": "categorical", "dim": 4},
        ],
        "preprocess": {"split": {"validation": 0.06, "test": 0.12}},
        "towers": {"dim": 8},
        "loss": {"probabilities": "streamed", "frequency": {"buckets": 1024}},
        # The final fit of one day shows how it goes; it takes as long as a small day.
        "train": {
            "batch_size": 64,
            "max_epochs": 4,
            "final_fit": "continue" if day == 2 else "none",
        },
        "evaluate": {"ks": [5, 10], "baselines": ["popularity"]},
        "gates": {"mode": "all", "min_overall": 0.05},
        "export": {"k": 10},
        "rollout": {"export_dir": str(root / "export")},
    }
