"""What a model has to show before it is rolled out: that it knows something, and that little is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pipelines.rollout.paired import Difference, Measure, difference, measure_of_tail
from preprocessing.base.errors import LongtailError
from preprocessing.features import Section
from trainer.evaluation.per_query import KNOWN, Key, PerQuery, Rankings

Json = Mapping[str, Any]
_ROUNDING = 1e-9
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GatesConfig(Section):
    """Thresholds that a candidate has to reach, by itself and beside blessed models on the same queries."""

    split: Literal["validation", "test"] = Field("test", description="whose figures decide")
    mode: Literal["new", "all"] = Field("new", description="items that are new to the user, or all")
    k: PositiveInt | None = Field(None, description="of recall@k, default: the longest list")
    min_users: Annotated[int, Field(ge=2)] = Field(
        2, description="queries with a target; below two there is no standard error"
    )
    min_overall: Share = Field(0.0, description="recall@k overall; 0: anything but nothing")
    min_tail: Share = Field(0.0, description="recall@k in the tail; 0: not asked for")
    min_over_popularity: float | None = Field(
        0.0, description="recall@k overall less that of the most popular items; null: any"
    )
    max_drop_overall: Share | None = Field(
        0.1, description="share of a blessed model's recall that may be lost; null: any"
    )
    max_drop_tail: Share | None = Field(0.5, description="the same in the tail")
    best_of: NonNegativeInt = Field(
        7,
        description="blessed versions, whose best is compared with beside the one in service: losses do not add "
        "up from day to day; 0: the one in service alone",
    )
    standard_errors: NonNegativeFloat = Field(
        2.0, description="of a difference paired by query, that it may miss by: chance"
    )
    min_index_recall: Share | None = Field(
        0.9, description="recall of an approximate index against exact search; null: any"
    )

    def drops(self) -> dict[str, float]:
        """Group -> share that may be lost, of the groups in which blessed models are compared with."""
        both = {"overall": self.max_drop_overall, "tail": self.max_drop_tail}
        return {group: drop for group, drop in both.items() if drop is not None}


@dataclass(frozen=True)
class Check:
    """One threshold and what was measured against it.

    Attributes:
      name: e.g. `recall@100/new overall against the blessed model`.
      expected: in words, with the number.
      received: the figure, None where there was none to measure.
      passed: whether it is good enough.
    """

    name: str
    expected: str
    received: float | None
    passed: bool

    def as_json(self) -> dict[str, Any]:
        """For a record beside the model."""
        return asdict(self)

    def __str__(self) -> str:
        """One line for people."""
        received = "none" if self.received is None else f"{self.received:.5f}"
        return f"{self.name}: expected {self.expected}, received {received}"


@dataclass(frozen=True)
class Evidence:
    """An evaluation: its metrics.json, and its hits by query."""

    metrics: Json
    by_query: Rankings


@dataclass(frozen=True)
class Reference:
    """A blessed model on the candidate's data.

    Attributes:
      name: what checks call it.
      groups: in which it is compared with, `overall` and `tail`.
      evidence: measured on the candidate's data.
    """

    name: str
    groups: Sequence[str]
    evidence: Evidence


def check(
    candidate: Evidence, references: Sequence[Reference], index: Json, gates: GatesConfig
) -> list[Check]:
    """Every check of a candidate, passed or not.

    Args:
      candidate: its evaluation.
      references: blessed models; none where none was ever blessed.
      index: what longtail.json says of the index (`serving.export.run.read_description(...)["index"]`).
      gates: the thresholds.

    Raises:
      LongtailError: two were not measured alike, or not at `gates.k`: nothing could be compared.
    """
    metrics = candidate.metrics
    k = gates.k or metrics["ks"][-1]
    for each in references:
        _require_alike(metrics, each.evidence.metrics)
    name, wild = f"recall@{k}/{gates.mode}", metrics["not_finite"]
    overall, users = _cell(metrics, gates, "overall", k)
    tail, _ = _cell(metrics, gates, "tail", k)
    checks = [
        _at_least("queries with a target", float(users), gates.min_users),
        Check("values of embeddings that are no number", "0", float(wild), not wild),
    ]
    if gates.min_overall:
        checks.append(_at_least(f"{name} overall", overall, gates.min_overall))
    else:
        some = overall is not None and math.isfinite(overall) and overall > 0
        checks.append(Check(f"{name} overall", "more than 0", _finite(overall), some))
    if gates.min_tail:
        checks.append(_at_least(f"{name} tail", tail, gates.min_tail))
    ours = candidate.by_query.get(Key(gates.split, gates.mode, "model"))
    if ours is not None and users:  # else the first check has failed
        if gates.min_over_popularity is not None:
            theirs = candidate.by_query[Key(gates.split, gates.mode, "popularity")]
            found = difference(ours, theirs, Measure(KNOWN, k))
            checks.append(_over_popularity(f"{name} overall less popularity", found, gates))
        for each in references:
            checks += _beside(ours, each, metrics["enough_hits"], k, gates)
    promised = index.get("recall")
    if promised is not None and gates.min_index_recall is not None:
        least = gates.min_index_recall
        checks.append(_at_least("recall of the index against exact", promised, least))
    return checks


def is_blessed(checks: Sequence[Check]) -> bool:
    """Whether there are checks and every one passed."""
    return bool(checks) and all(each.passed for each in checks)


def failed_checks(checks: Sequence[Check]) -> list[Check]:
    """Those that did not pass."""
    return [each for each in checks if not each.passed]


def _beside(
    ours: PerQuery, reference: Reference, enough: int, k: int, gates: GatesConfig
) -> list[Check]:
    """How much may be lost of what a blessed model finds."""
    theirs = reference.evidence.by_query[Key(gates.split, gates.mode, "model")]
    checks = []
    for group, drop in gates.drops().items():
        if group not in reference.groups:
            continue
        measure = (
            Measure(KNOWN, k) if group == "overall" else measure_of_tail(ours, theirs, k, enough)
        )
        name = f"recall@{measure.k}/{gates.mode} {measure} against {reference.name}"
        name += f" ({measure.remark})" if measure.remark else ""
        if not measure.tells:
            checks.append(Check(name, "more hits to compare", None, True))
            continue
        found = difference(ours, theirs, measure)
        # Chance takes half of what has to remain at most: a model that finds nothing never passes.
        remains = (1.0 - drop) * found.theirs
        margin = min(gates.standard_errors * found.error, remains / 2)
        least = remains - found.theirs - margin
        expected = (
            f"a difference of at least {_text(least)}: {drop:.0%} of {found.theirs:.5f} and "
            f"{gates.standard_errors:g} standard errors of {found.error:.5f}"
        )
        checks.append(_passes(name, expected, found, least))
    return checks


def _over_popularity(name: str, found: Difference, gates: GatesConfig) -> Check:
    wanted = gates.min_over_popularity or 0.0
    least = wanted - gates.standard_errors * found.error
    expected = (
        f"at least {_text(least)}: {wanted:g} less {gates.standard_errors:g} standard errors of "
        f"{found.error:.5f}"
    )
    return _passes(name, expected, found, least)


def _passes(name: str, expected: str, found: Difference, least: float) -> Check:
    """A difference without a standard error passes nothing."""
    known = math.isfinite(found.mean) and math.isfinite(found.error)
    return Check(
        name, expected, found.mean if known else None, known and found.mean >= least - _ROUNDING
    )


def _at_least(name: str, received: float | None, least: float) -> Check:
    """NaN and infinities pass nothing."""
    finite = _finite(received)
    return Check(name, f"at least {least:g}", finite, finite is not None and finite >= least)


def _text(value: float) -> str:
    """Without a sign for what rounds to 0."""
    return f"{value if math.isnan(value) else round(value, 5) + 0.0:.5f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cell(metrics: Json, gates: GatesConfig, group: str, k: int) -> tuple[float | None, int]:
    """The candidate's recall, None without targets, and the number of queries with one."""
    try:
        cell = metrics["splits"][gates.split]["rankers"]["model"][gates.mode][group]
        return cell[f"recall@{k}"], cell["users"]
    except KeyError as error:
        raise LongtailError(
            f"gates: expected recall@{k} of mode {gates.mode} on {gates.split}, received no {error}; "
            f"choose gates.k from evaluate.ks={list(metrics.get('ks', []))}"
        ) from error


def _require_alike(metrics: Json, baseline: Json) -> None:
    """Same queries, same catalogue, same buckets: else a difference says nothing of the models."""
    of_data = (each["made"].get("data_fingerprint") for each in (metrics, baseline))
    of_buckets = (each["buckets"] for each in (metrics, baseline))
    for what, (wanted, received) in (("data", of_data), ("buckets", of_buckets)):
        if wanted is None or wanted != received:
            raise LongtailError(
                f"gates: expected both models measured on the same {what}, received {wanted} and "
                f"{received}; evaluate the blessed model on the candidate's data"
            )
