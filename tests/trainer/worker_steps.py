"""A process that trains some steps for each of several configurations and writes what came of it.

    python -m tests.trainer.worker_steps CONFIGS.json DATA_DIR OUTPUT.npz

With TF_CONFIG it is one of several workers; all run the same command.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.base.config_io import parse_config
from trainer.base.keras2 import keras, tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.distributed.cluster import read_cluster
from trainer.distributed.strategy import distribute
from trainer.distributed.synchronous import SingleProcess, Span
from trainer.loop.build import build_model
from trainer.towers.recall_model import RecallModel

STEPS = 3


class _Losses(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.found.append(dict(logs))


def state_of(model: RecallModel) -> dict[str, np.ndarray]:
    """Everything that a checkpoint holds of the model."""
    parts = {
        "weight": model.trainable_variables,
        "optimizer": model.optimizer.variables,
        "negatives": model.negatives.variables,
    }
    return {
        f"{part}/{number}/{variable.name}": variable.numpy()
        for part, variables in parts.items()
        for number, variable in enumerate(variables)
    }


def state_at_first(config: TrainerSections, data_dir: Path) -> dict[str, np.ndarray]:
    """The state before the first step of `trained`."""
    keras.utils.set_random_seed(config.seed)
    return state_of(build_model(config, data_dir))


def trained(
    distribution: SingleProcess, config: TrainerSections, data_dir: Path
) -> dict[str, np.ndarray]:
    """Losses of each step, and the state after `STEPS`; seeded as `trainer.task.train` does."""
    keras.utils.set_random_seed(config.seed)
    with distribution.scope():
        model = build_model(config, data_dir)
    examples, heard = TrainingData(data_dir, config, distribution.part), _Losses()
    distribution.fit(model, examples, Span(0, 0, 1, STEPS), [heard])
    losses = {
        f"loss/{name}": np.array([each[name] for each in heard.found]) for name in heard.found[0]
    }
    return {**losses, **state_of(model)}


@contextlib.contextmanager
def gathers_counted() -> Iterator[list[Any]]:
    """What replicas gather in the steps that are traced meanwhile, which takes two messages each."""
    gathers: list[Any] = []
    gather = tf.distribute.ReplicaContext.all_gather

    def counting(self: Any, value: Any, **options: Any) -> Any:
        gathers.append(value)
        return gather(self, value, **options)

    tf.distribute.ReplicaContext.all_gather = counting
    try:
        yield gathers
    finally:
        tf.distribute.ReplicaContext.all_gather = gather


def main(configs: str, data_dir: str, output: str) -> None:
    documents = json.loads(Path(configs).read_text())
    parsed = {name: parse_config(each, TrainerSections, name) for name, each in documents.items()}
    distribution = distribute(read_cluster(), next(iter(parsed.values())))
    found: dict[str, Any] = {}
    for name, config in parsed.items():
        with gathers_counted() as gathers:
            result = trained(distribution, config, Path(data_dir))
        found |= {f"{name}:{key}": value for key, value in result.items()}
        found[f"gathers of {name}"] = len(gathers)
    np.savez(output, **found)
    distribution.from_chief(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
