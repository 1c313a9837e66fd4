"""Longtail's retrieval task in an ordinary TFRS model, each correction beside the stock task.

    python examples/tfrs_retrieval.py                     # MovieLens-100K, fetched into runs/sources
    python examples/tfrs_retrieval.py --seeds 0 1 2       # with the spread over seeds
    python examples/tfrs_retrieval.py --data log.parquet  # columns user_id, item_id, timestamp

Of each user the last fifth of the log is held out; see held_out.py for what is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from held_out import GROUPS, K, Log, read, recalls

from pipelines import datasets
from trainer.base.keras2 import keras, tf, tfrs  # sets TF_USE_LEGACY_KERAS, which TFRS needs
from trainer.losses.retrieval_task import RetrievalTask

DATA = Path("runs/sources/movielens_100k/ratings.parquet")
BATCH, DIM, TEMPERATURE = 256, 32, 1.0


class Model(tfrs.Model):
    """The two towers of TFRS's tutorial, an embedding each; the task is what varies."""

    def __init__(self, task: Any, num_users: int, num_items: int) -> None:
        super().__init__()
        self.users = keras.layers.Embedding(num_users, DIM)
        self.items = keras.layers.Embedding(num_items + 1, DIM)
        self.task = task

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """With Longtail's task: the same, and the ids of uniform items are asked for."""
        ids = self.task.candidates(features["item"])
        users, items = self.users(features["user"]), self.items(ids)
        return self.task(users, items, candidate_ids=ids, training=training)


class StockModel(Model):
    """With TFRS's task, given its own correction or not."""

    probability: tf.Tensor | None = None

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """TFRS's task as its documentation calls it."""
        ids, q = features["item"], self.probability
        q = None if q is None else tf.gather(q, ids)
        users, items = self.users(features["user"]), self.items(ids)
        return self.task(users, items, candidate_ids=ids, candidate_sampling_probability=q)


def models(log: Log) -> dict[str, Any]:
    """What is compared: name -> maker of a model."""
    size = len(log.seen.indptr) - 1, len(log.counts) - 1
    exact = {"temperature": TEMPERATURE, "item_counts": log.counts}
    memory = {"memory": {"size": 4 * BATCH}, "batch_size": BATCH}

    def stock(probability: Any = None) -> Model:
        model = StockModel(tfrs.tasks.Retrieval(temperature=TEMPERATURE), *size)
        model.probability = probability
        return model

    def ours(**arguments: Any) -> Model:
        return Model(RetrievalTask(**arguments), *size)

    share = tf.constant(log.counts / log.counts.sum(), tf.float32)
    return {
        "tfrs.tasks.Retrieval": stock,
        "the same, sampling probability": lambda: stock(share),
        "RetrievalTask, log_q none": lambda: ours(temperature=TEMPERATURE, log_q="none"),
        "standard logQ": lambda: ours(**exact),
        "corrected logQ": lambda: ours(log_q="corrected", **exact),
        "corrected, 64 uniform": lambda: ours(log_q="corrected", uniform=64, **exact),
        "the same, bank of 1024": lambda: ours(log_q="corrected", uniform=64, **memory, **exact),
    }


def main() -> None:
    """Trains every model on every seed, and prints a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    known = parser.parse_args()
    datasets.fetch_files("movielens_100k", [known.data])  # unless it is there
    log = read(known.data)
    batches = tf.data.Dataset.from_tensor_slices({"user": log.users, "item": log.items})
    print(f"{len(log.items)} pairs, {len(log.counts) - 1} items; recall@{K}:")
    print(f"{'':32}" + "".join(f"{group:>16}" for group in GROUPS))
    for name, make in models(log).items():
        found = []
        for seed in known.seeds:
            keras.utils.set_random_seed(seed)
            model = make()
            model.compile(keras.optimizers.Adam(0.01), steps_per_execution=32)
            # The last, smaller batch is left out: a bank counts on batches of one size.
            shuffled = batches.shuffle(len(log.items), seed=seed)
            model.fit(shuffled.batch(BATCH, drop_remainder=True), epochs=known.epochs, verbose=0)
            found.append(
                recalls(model.users.embeddings.numpy(), model.items.embeddings.numpy(), log)
            )
        spread = np.std(found, axis=0, ddof=1) if len(found) > 1 else np.zeros(len(GROUPS))
        cells = zip(np.mean(found, axis=0), spread, strict=True)
        print(f"{name:32}" + "".join(f"{mean:9.4f} ±{error:.4f}" for mean, error in cells))


if __name__ == "__main__":
    main()
