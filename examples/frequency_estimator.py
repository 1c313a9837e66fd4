"""The streamed estimate of how often items are drawn, alone in a training loop of one's own.

    python examples/frequency_estimator.py
    python examples/frequency_estimator.py --data log.parquet   # a column item_id, in order of time

Counts need a pass over the log, and are of yesterday. The estimator needs neither: it learns from
the steps between two occurrences, in 12 bytes a bucket. Without a log, items are drawn by a Zipf
law whose most popular third changes places half-way, so that old counts are wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.base.keras2 import tf
from trainer.functional.logq import log_probability_per_draw
from trainer.negatives.frequency import FrequencyEstimator

BATCH, NUM_ITEMS, STEPS = 256, 3_000, 3_000
# An estimate spans about 1 / learning_rate occurrences; before them the start value still counts.
estimator = FrequencyEstimator(buckets=4 * NUM_ITEMS, hashes=2, learning_rate=0.02)


@tf.function
def train_step(items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """The lines that a training step of one's own needs: count the batch, read its log Q."""
    estimator.update(items, step)
    # Per draw, which a task expects; without per_draw_of it is per batch, about 256 times as much.
    log_q: tf.Tensor = estimator.log_probability(items, per_draw_of=BATCH, exact=True)
    # Here the towers and RetrievalTask()(users, items, candidate_ids=ids, candidate_log_q=log_q).
    return log_q


def batches(path: Path | None) -> Iterator[NDArray[np.int64]]:
    """Whole batches of item ids: of a log, or drawn."""
    if path is not None:
        ids = pd.factorize(pd.read_parquet(path, columns=["item_id"]).item_id)[0] + 1
        yield from np.split(ids[: len(ids) - len(ids) % BATCH], len(ids) // BATCH)
        return
    generator, share = np.random.default_rng(0), 1 / np.arange(1, NUM_ITEMS + 1)
    later = share.copy()
    later[: NUM_ITEMS // 3] = later[: NUM_ITEMS // 3][::-1]
    for step in range(STEPS):
        p = share if step < STEPS // 2 else later
        yield 1 + generator.choice(NUM_ITEMS, BATCH, p=p / p.sum())


def deviation(estimated: NDArray[np.float32], exact: NDArray[np.float32]) -> tuple[float, float]:
    """Median of |log Q - exact log Q|, and the mean of the difference."""
    difference = estimated - exact
    return float(np.median(np.abs(difference))), float(difference.mean())


def main() -> None:
    """Trains, then compares the estimates with counts of the whole log and of its last half."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    path = parser.parse_args().data
    seen = []
    for number, items in enumerate(batches(path), start=1):
        # Steps count from 1, and as a tensor: a Python number would trace a graph a step.
        train_step(tf.constant(items), tf.constant(number, tf.int64))
        seen.append(items)
    halves = {
        "all of it": np.concatenate(seen),
        "its last half": np.concatenate(seen[len(seen) // 2 :]),
    }
    print(f"{len(seen)} batches of {BATCH}")
    for name, log in halves.items():
        counts = np.bincount(log)
        often = np.flatnonzero(counts >= 50)
        exact = log_probability_per_draw(counts[often], len(log)).numpy()
        estimated = estimator.log_probability(tf.constant(often), BATCH, exact=True).numpy()
        middle, mean = deviation(estimated, exact)
        print(
            f"against counts of {name}: {len(often)} items seen 50 times or more, "
            f"median |difference of log Q| {middle:.3f}, mean difference {mean:+.3f}"
        )


if __name__ == "__main__":
    main()
