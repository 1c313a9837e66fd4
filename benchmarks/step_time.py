"""How long a training step takes: by size of the vocabulary, and on given data.

    python -m benchmarks.step_time                       # synthetic: 10^4, 10^5 and 10^6 items
    python -m benchmarks.step_time --config CONFIG       # examples a second on preprocessed data

A step's time must not grow with the vocabulary: gradients of the tables are sparse and so are the
updates. Times are the best of several executions; CPU time says most where other programs run on
the machine.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from preprocessing.base.config_io import load_config, parse_config
from preprocessing.config import AS_OF
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.data.item_column import ItemColumn
from trainer.data.item_table import ItemTable
from trainer.loop.build import build_model
from trainer.loop.optimizer import SparseAdagrad
from trainer.towers.recall_model import RecallModel

USERS = 2_500
CATEGORIES = {
    "manufacturer": 6_500,
    "department": 32,
    "brand": 3,
    "category": 304,
    "type": 1_900,
    "size": 4_300,
}
ACTIVE = 10_000
"""Items that occur, spread over the whole table. Were they more in a larger one, the rows of a batch
would repeat less, and what is measured would be their number and not the size of the table."""
STEPS = 16
"""Steps of an execution."""


def synthetic_config(batch_size: int, history: int, ssl: bool) -> TrainerSections:
    """Seven item features, a user id, a context and a history."""
    items: list[dict[str, Any]] = [{"name": "product", "side": "item", "kind": "id", "dim": 64}]
    items += [
        {"name": name, "side": "item", "kind": "categorical", "dim": 16} for name in CATEGORIES
    ]
    queries: list[dict[str, Any]] = [
        {"name": "household", "side": "query", "kind": "id", "dim": 64},
        {"name": "weekday", "side": "context", "kind": "categorical", "dim": 8},
    ]
    if history:
        sequence = {"name": "recent", "side": "query", "kind": "sequence", "shared_with": "product"}
        queries.append({**sequence, "max_length": history})
    document = {
        "name": "benchmark",
        "work_dir": ".",
        "data": {
            "interactions": {"path": "log.csv"},
            "items": {"path": "items.csv"},
            "users": {"path": "users.csv"},
            "columns": {"user": "household", "item": "product", "timestamp": "time"},
        },
        "features": [*items, *queries],
        "train": {"batch_size": batch_size},
        "ssl": {"enabled": ssl, "augmentation": "complementary", "batch_size": batch_size},
    }
    return parse_config(document, TrainerSections, "benchmark")


def synthetic(config: TrainerSections, num_items: int) -> tuple[RecallModel, tf.data.Dataset]:
    """A model over `num_items >= ACTIVE` items and batches whose items follow a long tail."""
    rng = np.random.default_rng(0)
    popularity = 1 / (np.arange(ACTIVE) + 60.0) ** 0.95
    popularity /= popularity.sum()
    active = rng.choice(num_items, ACTIVE, replace=False) + 1
    features = {"product": np.arange(num_items + 1)}
    features |= {
        name: rng.integers(1, size + 1, num_items + 1) for name, size in CATEGORIES.items()
    }
    counts = np.zeros(num_items + 1, np.int64)
    counts[active] = np.maximum(popularity * 1_200_000, 1)
    keys = pa.chunked_array([pa.nulls(num_items, pa.large_string())])
    dense = {name: ItemColumn(values.astype(np.int64)) for name, values in features.items()}
    recent = {instant: counts.astype(np.float64) for instant in AS_OF}
    table = ItemTable(keys, counts, counts, recent, dense)
    sizes = {"product": num_items + 2, "household": USERS + 2, "weekday": 9}
    sizes |= {name: size + 2 for name, size in CATEGORIES.items()}
    model = RecallModel(config, table, sizes)
    train = config.train
    model.compile(optimizer=SparseAdagrad(train.learning_rate, train.initial_accumulator))

    batch, length = config.train.batch_size, config.feature_list.history_length
    rows = active[rng.choice(ACTIVE, (32 * batch, length + 1), p=popularity)].astype(np.int32)
    columns = {
        "item": rows[:, 0],
        "history": rows[:, 1:],
        "household": rng.integers(1, USERS, len(rows)).astype(np.int32),
        "weekday": rng.integers(1, 8, len(rows)).astype(np.int32),
        "reward": np.ones(len(rows), np.float32),
    }
    return model, tf.data.Dataset.from_tensor_slices(columns).batch(
        batch, drop_remainder=True
    ).cache().repeat()


def step_times(
    model: RecallModel, batches: tf.data.Dataset, executions: int
) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds a step of each execution, after one that traces, as `fit` runs them."""

    @tf.function
    def execute(iterator: Any) -> tf.Tensor:
        loss = tf.constant(0.0)
        for _ in tf.range(STEPS):
            loss = model.train_step(next(iterator))["loss"]
        return loss

    iterator = iter(batches)
    execute(iterator).numpy()
    wall, cpu = [], []
    for _ in range(executions):
        started, used = time.perf_counter(), time.process_time()
        execute(iterator).numpy()
        wall.append((time.perf_counter() - started) / STEPS)
        cpu.append((time.process_time() - used) / STEPS)
    return wall, cpu


def input_time(batches: tf.data.Dataset, steps: int) -> float:
    """Seconds to assemble a batch, nothing else running."""
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    for _ in range(steps):
        next(iterator)
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, help="measure on the preprocessed data of this configuration"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--history", type=int, nargs="*", default=[0, 20, 50])
    parser.add_argument("--ssl", action="store_true", help="with self-supervision")
    parser.add_argument("--executions", type=int, default=6)
    known = parser.parse_args()
    table = Table(
        "model",
        "items",
        "history",
        "best ms/step",
        "median ms/step",
        "CPU ms/step",
        "examples/s (best)",
        "input ms",
    )
    if known.config:
        config = load_config(known.config, TrainerSections, known.set)
        data_dir = Path(config.work_dir) / "data"
        model, batches = build_model(config, data_dir), TrainingData(data_dir, config).dataset(0)
        length = config.feature_list.history_length
        _add(table, config, model, batches, length, known.executions, input_time(batches, 200))
    else:
        for history in known.history:
            for items in known.items:
                config = synthetic_config(known.batch_size, history, known.ssl)
                model, batches = synthetic(config, items)
                _add(
                    table,
                    config,
                    model,
                    batches,
                    history,
                    known.executions,
                    input_time(batches, 100),
                )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    Console(width=110).print(table, f"{os.cpu_count()} cores, load average {load}")


def _add(
    table: Table,
    config: TrainerSections,
    model: RecallModel,
    batches: tf.data.Dataset,
    history: int,
    executions: int,
    input_seconds: float,
) -> None:
    wall, cpu = step_times(model, batches, executions)
    best, median = min(wall), float(np.median(wall))
    speed, items = config.train.batch_size / best, model.item_table.num_items
    numbers = [
        f"{items:,}",
        str(history),
        f"{best * 1e3:.1f}",
        f"{median * 1e3:.1f}",
        f"{min(cpu) * 1e3:.1f}",
        f"{speed:,.0f}",
    ]
    table.add_row(config.name, *numbers, f"{input_seconds * 1e3:.2f}")


if __name__ == "__main__":
    main()
