"""Exact search against ScaNN: latency of a search and recall@k over the number of items.

    python -m benchmarks.index_latency                          # 10^4, 10^5, 10^6: about 5 minutes
    python -m benchmarks.index_latency --items 10000 --k 50     # half a minute

Items are unit vectors around centres, as trained embeddings are; with independent uniform ones any
partition is as good as another and ScaNN looks worse than on real catalogues. Queries are drawn
the same way. Prints a Markdown table; --json writes the figures.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.config import ScannConfig
from serving.export.check import latency
from serving.index.exact import ExactIndex
from serving.index.interface import Index
from serving.index.scann import ScannIndex
from trainer.base.keras2 import tf
from trainer.evaluation.retrieval import top_items

BATCHES = (1, 64)
QUERIES = 256


def embeddings(count: int, dim: int, centres: int, seed: int) -> NDArray[Any]:
    """Unit vectors [count, dim]; the share of a centre is about half of a vector's square length."""
    around = np.random.default_rng(7).normal(size=(centres, dim)).astype(np.float32)
    random = np.random.default_rng(seed)
    found = around[random.integers(0, centres, count)]
    found += random.normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def measure(
    index: Index, items: NDArray[Any], queries: NDArray[Any], exact: NDArray[Any]
) -> dict[str, Any]:
    """Seconds to build, recall@k of the queries, milliseconds of a search by size of the batch."""
    k = exact.shape[1]
    started = time.perf_counter()
    index.build(items)
    built = time.perf_counter() - started
    search = tf.function(index.search, autograph=False, reduce_retracing=True)
    parts = [search(tf.constant(queries[at : at + 64]), k)[1] for at in range(0, len(queries), 64)]
    found = np.concatenate([part.numpy() for part in parts])
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])
    times = {n: latency(partial(search, tf.constant(queries[:n]), k)) for n in BATCHES}
    return {
        "build_seconds": round(built, 1),
        "recall": round(float(recall), 4),
        "latency_ms": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--centres", type=int, default=1_000)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    print("| items | index | build s | recall@k | 1 query p50 / p99 ms | 64 queries p50 / p99 ms |")
    print("|---|---|---|---|---|---|")
    figures = []
    for count in options.items:
        rows = embeddings(count, options.dim, options.centres, seed=0)
        items = np.concatenate([np.zeros([1, options.dim], np.float32), rows])
        queries = embeddings(QUERIES, options.dim, options.centres, seed=1)
        exact, _ = top_items(queries, items, options.k, None, batch_users=64)
        for name, index in (("exact", ExactIndex()), ("ScaNN", ScannIndex(ScannConfig()))):
            found = measure(index, items, queries, exact)
            figures.append({"items": count, "index": name, "k": options.k, **found})
            times = " | ".join(
                f"{t['p50']:.2f} / {t['p99']:.2f}" for t in found["latency_ms"].values()
            )
            built, recall = found["build_seconds"], found["recall"]
            print(f"| {count:,} | {name} | {built} | {recall:.3f} | {times} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
