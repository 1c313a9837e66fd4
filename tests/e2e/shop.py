"""A small shop with its own column names: six tastes, each with its articles, so that there is something to learn."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

TASTES, ARTICLES, CUSTOMERS = 6, 120, 90
COLOURS = ["red", "green", "", "blue"]


def write_sources(directory: Path, rows: int = 6_000) -> None:
    """orders.csv and articles.parquet."""
    random = np.random.default_rng(5)
    popularity = 1 / np.arange(1, ARTICLES // TASTES + 1)
    start = datetime(2024, 5, 1)
    with (directory / "orders.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["customer", "article", "ordered_at", "amount", "channel"])
        for i in range(rows):
            customer = random.integers(CUSTOMERS)
            preference = customer % TASTES if random.random() < 0.9 else random.integers(TASTES)
            article = preference + TASTES * random.choice(
                len(popularity), p=popularity / popularity.sum()
            )
            at = (start + timedelta(minutes=int(i * 7))).strftime("%d/%m/%Y %H:%M")
            writer.writerow(
                [
                    f"C{customer:04}",
                    f"A{article:04}",
                    at,
                    random.integers(1, 4),
                    ["web", "app", ""][i % 3],
                ]
            )
        writer.writerow(["", "A0001", at, 1, "web"])  # no customer
        writer.writerow(["C0001", "A9999", at, 1, "web"])  # not in the catalogue
        writer.writerow(["C0001", "A0001", "soon", 1, "web"])  # no time
        writer.writerow(["C0001", "A0001"])  # too short
    articles = [
        {
            "sku": f"A{n:04}",
            "label": f"Fine {['tea', 'Cup', 'lamp', 'pen', 'hat', 'bag'][n % TASTES]}, no. {n}",
            "price": float(n % 17) if n % 11 else None,
            "tags": ";".join(f"t{t}" for t in {n % TASTES, n % 4}),
            "tag_weights": ";".join("1.5" for _ in {n % TASTES, n % 4}),
            "colour": COLOURS[n % 4],
        }
        for n in range(ARTICLES)
    ]
    pq.write_table(pa.Table.from_pylist(articles), directory / "articles.parquet")


def documented_config(root: Path) -> dict[str, Any]:
    """The configuration that docs/your_data.md shows."""
    text = (root / "docs" / "your_data.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert found is not None
    document: dict[str, Any] = yaml.safe_load(found.group(1))
    return document


def write_config(directory: Path, root: Path) -> Path:
    """The documented configuration beside the sources."""
    document = documented_config(root)
    document["work_dir"] = str(directory / document["work_dir"])
    for table in ("interactions", "items"):
        document["data"][table]["path"] = str(directory / document["data"][table]["path"])
    # What it adds is shown in test_daily.
    document["train"] = {**document.get("train", {}), "final_fit": "none"}
    path = directory / "shop.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
