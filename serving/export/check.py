"""What an export has to show before it appears: that it answers as the model does, how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailFailure
from preprocessing.features import FeatureList
from serving.config import ExportConfig
from serving.export.sample_requests import Items, Query, no_exclusions, of_one_form, query_arrays
from serving.export.vector_check import TOLERANCE, check_items, check_scores, require_alike
from serving.index.exact import ExactIndex
from serving.index.interface import Index
from serving.server.servable import Servable
from serving.server.status import StatusError
from trainer.base.keras2 import tf
from trainer.evaluation.retrieval import top_items

BATCHES = (1, 64)
_SECONDS = 1.5
_MAX_CALLS = 300


class Samples(NamedTuple):
    """What the exported model is asked, and what it should answer.

    Attributes:
      queries: raw, Q of them.
      trained: [Q, D], the model's embeddings of the *transformed* examples of the same users.
      items: raw, of the catalogue.
      ids: raw keys of the catalogue by row.
    """

    queries: Sequence[Query]
    trained: NDArray[np.float32]
    items: Items
    ids: NDArray[Any]


def check_answers(
    version: Path, samples: Samples, index: Index, features: FeatureList, k: int
) -> dict[str, Any]:
    """Load the version as TF Serving does and compare its answers with the model in memory.

    Args:
      version: a finished SavedModel with its warm-up requests, which are replayed.
      samples: queries and items.
      index: the one exported.
      features: the feature list.
      k: of ``serving_default``.

    Returns:
      Largest differences, and the latency of ``serving_default``.

    Raises:
      LongtailFailure: the SavedModel does not load or answers otherwise than the model.
    """
    try:
        servable = Servable(str(version))
    except (StatusError, tf.errors.OpError, OSError, RuntimeError, ValueError) as error:
        raise LongtailFailure(f"the exported model does not load: {_first_line(error)}") from error
    try:
        of_items = check_items(servable, samples.items, samples.ids, index, features)
        return {**_check_queries(servable, samples, index, features, k), **of_items}
    except StatusError as error:
        raise LongtailFailure(
            f"the exported model does not answer its sample requests: {_first_line(error)}"
        ) from error
    finally:
        servable.close()


def _check_queries(
    servable: Servable, samples: Samples, index: Index, features: FeatureList, k: int
) -> dict[str, Any]:
    queries = samples.queries
    if not queries:
        return {"queries": 0}
    rows = [query_arrays([query], features) for query in queries]
    served = np.concatenate([servable.run("embed_query", row)["embedding"] for row in rows])
    expected = "train/serve skew: expected a served query to have the embedding of its example"
    difference = require_alike(
        served, samples.trained, expected, lambda at: f"query {dict(queries[at])}"
    )
    answers = [
        servable.run("serving_default", {**row, "exclude": no_exclusions(1)}) for row in rows
    ]
    scores, _ = index.search(tf.constant(served), k)
    gap = float(np.abs(np.concatenate([a["scores"] for a in answers]) - scores.numpy()).max())
    if not gap <= TOLERANCE:
        raise LongtailFailure(
            f"expected the exported index to score as the one in memory within {TOLERANCE}, "
            f"received a difference of {gap:.2g}: export again"
        )
    product = check_scores(servable, rows, served, samples.ids, index, min(k, index.num_items))
    latencies = {}
    alike = of_one_form(queries, features)
    for batch in BATCHES:
        inputs = query_arrays([alike[i % len(alike)] for i in range(batch)], features)
        inputs["exclude"] = no_exclusions(batch)
        latencies[str(batch)] = latency(partial(servable.run, "serving_default", inputs))
    return {
        "queries": len(queries),
        "embedding_difference": difference,
        "score_difference": gap,
        "product_difference": product,
        "latency_ms": latencies,
    }


def measure_index(
    index: Index, items: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> dict[str, Any]:
    """Recall@k of an index against exact search on real queries, and the latency of both.

    Args:
      index: built on ``items``.
      items: [N + 1, D].
      queries: [Q, D]; without any, nothing is measured.
      k: items asked for.
    """
    if not len(queries):
        return {"queries": 0}
    k = min(k, index.num_items)
    report: dict[str, Any] = {"queries": len(queries), "k": k, "latency_ms": {}}
    others = {"exact": index}
    if not index.is_exact:
        exact, _ = top_items(queries, items, k, None, batch_users=256)
        parts = [
            index.search(tf.constant(queries[at : at + 256]), k)[1].numpy()
            for at in range(0, len(queries), 256)
        ]
        found = np.concatenate(parts)
        hits = [np.isin(a, b).sum() for a, b in zip(exact, found, strict=True)]
        report["recall"] = float(np.mean(hits) / k)
        brute = ExactIndex()
        brute.build(items)
        others = {"index": index, "exact": brute}
    for name, each in others.items():
        search = tf.function(each.search, autograph=False, reduce_retracing=True)
        report["latency_ms"][name] = {}
        for batch in BATCHES:
            some = tf.constant(np.resize(queries, [batch, queries.shape[1]]))
            report["latency_ms"][name][str(batch)] = latency(partial(search, some, k))
    return report


def check_recall(measured: dict[str, Any], config: ExportConfig, index: Index) -> None:
    """Refuse an index that misses too many of the best items.

    Raises:
      LongtailFailure: the recall is below ``scann.min_recall``; names the settings that raise it.
    """
    recall, wanted = measured.get("recall"), config.scann.min_recall
    if recall is None or recall >= wanted:
        return
    raise LongtailFailure(
        f"expected recall@{measured['k']} of the index of at least "
        f"export.scann.min_recall={wanted} against exact search, "
        f"received {recall:.3f} on {measured['queries']} validation queries: {index.remedy} or set "
        "export.index: exact; nothing was exported"
    )


def latency(call: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of a call, p50 and p99, over a second or two; the first is not counted."""
    call()
    taken: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(taken) < _MAX_CALLS and (not taken or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1e3
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "calls": len(taken)}


def _first_line(error: BaseException) -> str:
    return (str(getattr(error, "message", "")) or str(error) or repr(error)).splitlines()[0]
