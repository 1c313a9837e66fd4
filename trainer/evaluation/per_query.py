"""Targets and hits of every query: what comparisons between models are paired by, beside metrics.json.

Two models that were measured on the same queries differ far less by chance than their separate
standard errors say. So an evaluation keeps, for each query and bucket, the number of targets and
of hits at each length of the list; every recall of `protocol` follows from them, that of several
buckets together too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.buckets import BUCKETS, PopularityBuckets
from trainer.functional.metrics import Floats, Ints, Targets, hits

PER_QUERY = "per_query.parquet"
GATED = ("model", "popularity")
"""The rankers that gates compare; their tail is measured on longer lists where its hits are few."""
KNOWN = ("head", "torso", "tail")
"""The buckets of overall figures."""
LONGER = (2, 5, 10)
"""Multiples of the longest list that are ranked where it holds too few hits in the tail."""
_SHARE = 10
"""A list of more than a tenth of the catalogue tells little of a ranking."""
_ASKED = ("split", "mode", "ranker")


class Key(NamedTuple):
    """Which ranking: `split`, `mode`, `ranker`."""

    split: str
    mode: str
    ranker: str


@dataclass(frozen=True)
class PerQuery:
    """What one ranking found, by query.

    Attributes:
      users: `[U]` keys.
      targets: bucket -> `[U]` number of targets.
      hits: bucket -> length of the list -> `[U]` hits among its first places.
    """

    users: NDArray[Any]
    targets: Mapping[str, Ints]
    hits: Mapping[str, Mapping[int, Ints]]

    @property
    def lists(self) -> list[int]:
        """The lengths that were ranked, rising."""
        return sorted(next(iter(self.hits.values())))

    def total(self, buckets: Iterable[str], k: int) -> int:
        """Hits of all queries in some buckets."""
        return int(sum(self.hits[bucket][k].sum() for bucket in buckets))

    def recall(self, buckets: Sequence[str], k: int) -> Floats:
        """`[U]` recall@k of the targets in some buckets, NaN for queries without one."""
        counts = np.sum([self.targets[bucket] for bucket in buckets], axis=0)
        found = np.sum([self.hits[bucket][k] for bucket in buckets], axis=0)
        ideal = np.minimum(counts, k).astype(np.float64)
        return np.asarray(found / np.where(ideal > 0, ideal, np.nan), np.float64)

    def take(self, rows: NDArray[Any]) -> PerQuery:
        """The queries of the given rows, in their order."""
        return PerQuery(
            self.users[rows],
            {bucket: values[rows] for bucket, values in self.targets.items()},
            {b: {k: values[rows] for k, values in of.items()} for b, of in self.hits.items()},
        )


Rankings = dict[Key, PerQuery]


def count_hits(
    users: NDArray[Any],
    ranked: Ints,
    targets: Targets,
    buckets: PopularityBuckets,
    lists: Sequence[int],
) -> PerQuery:
    """Counts of one ranking.

    Args:
      users: `[U]` keys.
      ranked: `[U, max(lists)]` item rows, best first, 0 = padding.
      targets: of the mode, for the same users.
      buckets: of the catalogue.
      lists: lengths, rising.
    """
    found = hits(ranked, targets)
    of_hit = np.where(found, buckets.bucket_of_item[ranked], -1)
    of_target = buckets.bucket_of_item[targets.items]
    wanted, inside = {}, {}
    for index, name in enumerate(BUCKETS):
        mine = targets.users[of_target == index]
        wanted[name] = np.bincount(mine, minlength=targets.num_users)
        inside[name] = {k: (of_hit[:, :k] == index).sum(axis=1) for k in lists}
    return PerQuery(users, wanted, inside)


def longer_lists(k: int, num_items: int) -> list[int]:
    """Lengths beyond k at which the tail may be measured in a catalogue of this size."""
    return [k * times for times in LONGER if k * times * _SHARE <= num_items]


def common(one: PerQuery, other: PerQuery) -> tuple[PerQuery, PerQuery]:
    """The queries that both were measured on, in one order."""
    _, mine, theirs = np.intersect1d(one.users, other.users, return_indices=True)
    return one.take(mine), other.take(theirs)


def of_gates(rankings: Mapping[Key, PerQuery]) -> Rankings:
    """What is kept beside a served version: the model, and the popularity that it has to beat."""
    return {key: each for key, each in rankings.items() if key.ranker in GATED}


def write_per_query(path: Path, rankings: Mapping[Key, PerQuery]) -> None:
    """One row a ranking and query; hits of lengths that were not ranked are null."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.fs import LocalFileSystem

    lists = sorted({k for each in rankings.values() for k in each.lists})
    tables = []
    for key, each in rankings.items():
        rows = len(each.users)
        columns: dict[str, Any] = {
            name: pa.array([value] * rows, pa.string())
            for name, value in zip(_ASKED, key, strict=True)
        }
        columns["user"] = pa.array(list(each.users), pa.binary())
        for bucket in BUCKETS:
            columns[f"targets/{bucket}"] = pa.array(each.targets[bucket], pa.int32())
        for bucket in BUCKETS:
            for k in lists:
                counts = each.hits[bucket].get(k)
                columns[f"hits/{bucket}@{k}"] = (
                    pa.nulls(rows, pa.int32()) if counts is None else pa.array(counts, pa.int32())
                )
        tables.append(pa.table(columns))
    local = LocalFileSystem()  # else Arrow takes a path with a colon for a URI
    pq.write_table(pa.concat_tables(tables), path, compression="zstd", filesystem=local)


def read_per_query(path: Path) -> Rankings:
    """What `write_per_query` wrote.

    Raises:
      OSError: there is none.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    keys = table.select(list(_ASKED)).group_by(list(_ASKED)).aggregate([]).to_pylist()
    found: Rankings = {}
    for row in keys:
        key = Key(*(row[name] for name in _ASKED))
        same = [pc.equal(table[name], value) for name, value in row.items()]
        part = table.filter(pc.and_(pc.and_(same[0], same[1]), same[2]))
        counts: dict[str, dict[int, Ints]] = {bucket: {} for bucket in BUCKETS}
        for name in part.column_names:
            kind, _, rest = name.partition("/")
            if kind == "hits" and not part[name].null_count:
                bucket, _, k = rest.partition("@")
                counts[bucket][int(k)] = part[name].to_numpy().astype(np.int64)
        found[key] = PerQuery(
            np.array(part["user"].to_pylist(), object),
            {b: part[f"targets/{b}"].to_numpy().astype(np.int64) for b in BUCKETS},
            counts,
        )
    return found
