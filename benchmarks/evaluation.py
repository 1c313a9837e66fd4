"""The ranking of the full evaluation against TFRS's, in one run: CPU seconds a thousand users.

    python -m benchmarks.evaluation                     # 65,000 items, 2,048 users: about 3 minutes
    python -m benchmarks.evaluation --users 512 --rounds 3

Each round measures every way once, so that all of them meet the same machine; the table gives the
median of the rounds, the lowest and the highest. CPU seconds of all threads, not those of a clock:
others may be at work on the machine. What is compared: the top k of all items, of which we also
leave out those that a user has seen (`new`), or give both lists at once (`both`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index_latency import embeddings
from trainer.base.keras2 import tf, tfrs
from trainer.data.ragged import Ragged
from trainer.evaluation.baselines.popularity import PopularityRanker
from trainer.evaluation.protocol import QuerySplit, csr_of
from trainer.evaluation.retrieval import top_items, top_items_by_mode
from trainer.functional.metrics import Targets

BATCH = 64
TFRS_BATCH = 512
"""Queries at once: TFRS's metric takes 1.6 to 2.4 times as long with 64; ours longer with 512."""
SEEN = (50, 600)
"""Items that a user has seen, from and to."""


def ways(
    queries: NDArray[Any], items: NDArray[Any], seen: Ragged, k: int
) -> dict[str, Callable[[], object]]:
    """What is measured, by name: each ranks all users once."""
    layers = tfrs.layers.factorized_top_k

    def batches(size: int) -> list[tf.Tensor]:
        return [tf.constant(queries[at : at + size]) for at in range(0, len(queries), size)]

    parts = batches(BATCH)
    brute = layers.BruteForce(k=k).index(tf.constant(items[1:]), tf.range(1, len(items)))
    search = tf.function(brute)

    def metric(batch: int, size: int) -> Callable[[], object]:
        of_metric = batches(size)
        true = [tf.constant(items[1 : 1 + len(part)]) for part in of_metric]
        candidates = tf.data.Dataset.from_tensor_slices(items[1:]).batch(batch)
        top = tfrs.metrics.FactorizedTopK(candidates=candidates, ks=(k,))

        @tf.function
        def update(query: tf.Tensor, positive: tf.Tensor) -> tf.Tensor:
            top.update_state(query, positive)
            return tf.constant(0)

        return lambda: [update(*each) for each in zip(of_metric, true, strict=True)]

    return {
        "both": lambda: top_items_by_mode(queries, items, k, seen, BATCH),
        "new": lambda: top_items(queries, items, k, seen, BATCH),
        "all": lambda: top_items(queries, items, k, None, BATCH),
        "the product alone": _product(parts, items),
        "TFRS BruteForce, all": lambda: [search(part) for part in parts],
        **{
            f"TFRS FactorizedTopK, all, {size} queries and {batch:,} items at once": metric(
                batch, size
            )
            for size in (BATCH, TFRS_BATCH)
            for batch in (128, 4096)
        },
    }


def _product(parts: list[tf.Tensor], items: NDArray[Any]) -> Callable[[], object]:
    """The scores alone, which nothing exact can do without."""
    table = tf.constant(np.ascontiguousarray(items.T))
    product = tf.function(lambda part: tf.matmul(part, table))
    return lambda: [product(part) for part in parts]


def cpu_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def popularity_seconds(users: int, num_items: int, k: int) -> float:
    """Ranks so many users by popularity, without what each has seen."""
    random = np.random.default_rng(4)
    sizes = random.integers(*SEEN, users) // 4
    rows = np.repeat(np.arange(users), sizes)
    # Popular items are seen more often.
    found = (num_items * random.random(sizes.sum()) ** 3).astype(np.int64) + 1
    seen = csr_of(rows, found, np.ones(len(found)), (users, num_items + 1))
    split = QuerySplit("test", {}, Targets.from_lists([[]] * users), seen)
    ranker = PopularityRanker(np.arange(num_items + 1)[::-1])
    return cpu_seconds(lambda: ranker.rank(split, k, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=65_000)
    parser.add_argument("--users", type=int, default=2_048)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--popularity-users", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    rows = embeddings(options.items, options.dim, 1_000, seed=0)
    items = np.concatenate([np.zeros([1, options.dim], np.float32), rows])
    queries = embeddings(options.users, options.dim, 1_000, seed=1)
    random = np.random.default_rng(2)
    lists = [
        random.choice(options.items, size, replace=False) + 1
        for size in random.integers(*SEEN, options.users)
    ]
    seen = Ragged(np.concatenate(lists), np.cumsum([0, *map(len, lists)]))
    measured = ways(queries, items, seen, options.k)
    for call in measured.values():  # graphs are traced, memory is taken
        call()
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(options.rounds):
        for name, call in measured.items():
            found[name].append(cpu_seconds(call) * 1000 / options.users)
    ours = found["all"]
    print("| | CPU s a 1,000 users | lowest to highest | times `all` |\n|---|---|---|---|")
    for name, each in found.items():
        ratio = np.median(np.array(each) / np.array(ours))
        print(
            f"| {name} | {np.median(each):.3f} | {min(each):.3f} to {max(each):.3f} | {ratio:.1f} |"
        )
    seconds = popularity_seconds(options.popularity_users, options.items, options.k)
    print(
        f"\npopularity without what was seen, {options.popularity_users:,} users: {seconds:.1f} CPU s"
    )
    if options.json:
        options.json.write_text(json.dumps({**found, "popularity": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
