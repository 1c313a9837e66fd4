"""What logQ, the popularity coordinate and self-supervision are worth: each on and off, by bucket.

    python -m benchmarks.on_off CONFIG --out docs/results [--seeds 42 43 44]

Each arm's temperature is chosen on validation with the first seed, then every seed is trained and ranked once on
test. A result that is in OUT/on_off.json already is not computed again. About 30 s a training on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import preprocessing.quiet  # noqa: F401  before TensorFlow
from preprocessing.artifacts import write_text_atomically
from preprocessing.config_io import load_config
from trainer.config import TrainerSections

ARMS: dict[str, list[str]] = {
    "logQ, popularity coordinate": [],
    "the same with SSL": ["ssl.enabled=true", "ssl.alpha=0.1"],
    "neither": ["loss.log_q=none", "towers.popularity=null"],
    "logQ alone": ["towers.popularity=null"],
}
TEMPERATURES = (0.1, 0.15, 0.2)
BUCKETS = ("overall", "head", "torso", "tail")


def measure(
    config_path: Path, overrides: list[str], data_dir: Path, splits: tuple[str, ...]
) -> dict[str, Any]:
    """Train one model and rank the splits: split -> bucket -> recall on new items."""
    from rich.console import Console

    from trainer.buckets import assign_buckets
    from trainer.evaluate import TwoTower, read_split
    from trainer.judge import Clock, judge
    from trainer.model import load_model
    from trainer.retrieval import item_embeddings
    from trainer.task import train

    config = load_config(config_path, TrainerSections, overrides)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        summary = train(config, data_dir, Path(scratch), console=Console(quiet=True))
        seconds = time.perf_counter() - started
        model = load_model(config, data_dir, Path(scratch))
    table, k = model.item_table, config.evaluate.ks[-1]
    items = {name: item_embeddings(model, table, as_of=name) for name in splits}
    ranker = TwoTower(model, items, config.evaluate.batch_users)
    buckets = assign_buckets(table.counts_events, config.evaluate.bucket_shares)
    found: dict[str, Any] = {"step": summary["best_step"], "seconds": round(seconds, 1)}
    for name in splits:
        split = read_split(data_dir, name, buckets.num_items)
        judged = judge(split, [ranker], buckets, config.evaluate.ks, Clock())
        cells = judged["rankers"]["model"]["new"]
        found[name] = {b: cells[b][f"recall@{k}"] for b in BUCKETS}
    return found


def main() -> None:
    """Runs what is missing and writes on_off.json and on_off.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, help="default: WORK_DIR/data")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    given = parser.parse_args()
    data_dir = given.data_dir or Path(load_config(given.config, TrainerSections).work_dir) / "data"
    path = given.out / "on_off.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def once(key: str, overrides: list[str], splits: tuple[str, ...]) -> dict[str, Any]:
        if key not in results:
            results[key] = measure(given.config, overrides, data_dir, splits)
            write_text_atomically(path, json.dumps(results, indent=1) + "\n")
            print(key, results[key], flush=True)
        cell: dict[str, Any] = results[key]
        return cell

    lines = ["| arm | temperature | overall | head | torso | tail |", "|---|---|---|---|---|---|"]
    for arm, overrides in ARMS.items():
        tuned = {}
        for t in TEMPERATURES:
            key = f"{arm} / temperature {t}"
            own = [*overrides, f"loss.temperature={t}", f"seed={given.seeds[0]}"]
            tuned[t] = once(key, own, ("validation",))["validation"]["overall"]
        best = max(tuned, key=lambda t: tuned[t])
        own = [*overrides, f"loss.temperature={best}"]
        runs = [
            once(f"{arm} / seed {s}", [*own, f"seed={s}"], ("validation", "test"))
            for s in given.seeds
        ]
        cells = [np.array([run["test"][b] for run in runs]) for b in BUCKETS]
        shown = " | ".join(
            f"{c.mean():.4f} ± {c.std(ddof=1) if len(c) > 1 else 0:.4f}" for c in cells
        )
        lines.append(f"| {arm} | {best} | {shown} |")
    write_text_atomically(given.out / "on_off.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
