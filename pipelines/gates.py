"""What a model has to show before it is rolled out: recall, overall and in the tail, and the index's promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from preprocessing.errors import LongtailError
from preprocessing.features import Section

Json = Mapping[str, Any]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GatesConfig(Section):
    """Thresholds that a candidate has to reach, by itself and beside the blessed model on the same data."""

    split: Literal["validation", "test"] = "test"
    mode: Literal["new", "all"] = "new"
    k: PositiveInt | None = Field(None, description="of recall@k, default: the longest list")
    min_overall: Share = Field(0.0, description="recall@k overall")
    min_tail: Share = Field(0.0, description="recall@k in the tail")
    max_drop_overall: Share | None = Field(
        0.1, description="share of the blessed model's recall that may be lost; null: any"
    )
    max_drop_tail: Share | None = Field(0.5, description="the same in the tail")
    standard_errors: NonNegativeFloat = Field(
        2.0, description="of the candidate's recall, that a drop may exceed its share by: chance"
    )
    min_index_recall: Share | None = Field(
        0.9, description="recall of an approximate index against exact search; null: any"
    )


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


def check(metrics: Json, baseline: Json | None, index: Json, gates: GatesConfig) -> list[Check]:
    """Every check of a candidate, passed or not.

    Args:
      metrics: the candidate's metrics.json.
      baseline: that of the blessed model, on the same data; None where none was ever blessed.
      index: what longtail.json says of the index (`serving.export.read_description(...)["index"]`).
      gates: the thresholds.

    Raises:
      LongtailError: the two were not measured alike, or not at `gates.k`: nothing could be compared.
    """
    k = gates.k or metrics["ks"][-1]
    if baseline is not None:
        _require_alike(metrics, baseline)
    checks = []
    for group, least, drop in (
        ("overall", gates.min_overall, gates.max_drop_overall),
        ("tail", gates.min_tail, gates.max_drop_tail),
    ):
        name = f"recall@{k}/{gates.mode} {group}"
        received, error = _recall(metrics, gates, group, k, "metrics")
        # A threshold of 0 asks for nothing, not even for targets in that bucket.
        checks.append(_at_least(name, f"at least {least:g}", received, least, or_none=not least))
        if baseline is None or drop is None:
            continue
        before, _ = _recall(baseline, gates, group, k, "the baseline")
        if before is None:
            continue
        margin = gates.standard_errors * (error or 0.0)
        wanted = max(0.0, (1.0 - drop) * before - margin)
        expected = (
            f"at least {wanted:.5f}: {before:.5f} less {drop:.0%}"
            f" and {gates.standard_errors:g} standard errors"
        )
        checks.append(_at_least(f"{name} against the blessed model", expected, received, wanted))
    promised = index.get("recall")
    if promised is not None and gates.min_index_recall is not None:
        least = gates.min_index_recall
        checks.append(
            _at_least("recall of the index against exact", f"at least {least:g}", promised, least)
        )
    return checks


def is_blessed(checks: list[Check]) -> bool:
    """Whether every check passed."""
    return all(each.passed for each in checks)


def refused(checks: list[Check]) -> list[Check]:
    """Those that did not pass."""
    return [each for each in checks if not each.passed]


def _at_least(
    name: str, expected: str, received: float | None, least: float, or_none: bool = False
) -> Check:
    """NaN and infinities pass nothing."""
    if received is None:
        return Check(name, expected, None, or_none)
    finite = math.isfinite(received)
    return Check(name, expected, received if finite else None, finite and received >= least)


def _recall(
    metrics: Json, gates: GatesConfig, group: str, k: int, whose: str
) -> tuple[float | None, float | None]:
    """The recall and its standard error, None without targets."""
    try:
        cell = metrics["splits"][gates.split]["rankers"]["model"][gates.mode][group]
        return cell[f"recall@{k}"], cell.get(f"recall@{k}/se")
    except KeyError as error:
        raise LongtailError(
            f"gates: expected recall@{k} of mode {gates.mode} on {gates.split} in {whose}, received "
            f"no {error}; choose gates.k from evaluate.ks={list(metrics.get('ks', []))}"
        ) from error


def _require_alike(metrics: Json, baseline: Json) -> None:
    """Same queries, same catalogue, same buckets: else a difference says nothing of the models."""
    for what, wanted, received in (
        (
            "data",
            metrics["made"].get("data_fingerprint"),
            baseline["made"].get("data_fingerprint"),
        ),
        ("buckets", metrics["buckets"], baseline["buckets"]),
    ):
        if wanted is None or wanted != received:
            raise LongtailError(
                f"gates: expected both models measured on the same {what}, received {wanted} and "
                f"{received}; evaluate the blessed model on the candidate's data"
            )
