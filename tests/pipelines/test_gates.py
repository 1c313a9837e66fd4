"""Gates by hand: what passes, what is refused, what cannot be compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.gates import Check, GatesConfig, check, is_blessed, refused
from preprocessing.errors import LongtailError

EXACT: dict[str, Any] = {"kind": "exact", "leaves": None}


def measured(
    overall: float | None, tail: float | None, error: float = 0.0, data: str = "d1"
) -> dict[str, Any]:
    """metrics.json with what the gates read."""

    def cell(recall: float | None) -> dict[str, Any]:
        return {"recall@10": 0.0, "recall@100": recall, "recall@100/se": error}

    cells = {"new": {"overall": cell(overall), "tail": cell(tail)}}
    return {
        "ks": [10, 100],
        "made": {"data_fingerprint": data},
        "buckets": {"head": {"items": 2}},
        "splits": {"test": {"rankers": {"model": cells}}},
    }


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {each.name: each for each in checks}


def test_the_first_model_is_judged_by_itself() -> None:
    checks = check(measured(0.08, 0.001), None, EXACT, GatesConfig(min_overall=0.07))
    assert [each.name for each in checks] == ["recall@100/new overall", "recall@100/new tail"]
    assert is_blessed(checks)
    low = check(measured(0.0699, 0.001), None, EXACT, GatesConfig(min_overall=0.07))
    assert [each.name for each in refused(low)] == ["recall@100/new overall"]
    assert str(low[0]) == "recall@100/new overall: expected at least 0.07, received 0.06990"


def test_exactly_the_minimum_is_enough() -> None:
    assert is_blessed(
        check(measured(0.5, 0.25), None, {}, GatesConfig(min_overall=0.5, min_tail=0.25))
    )


@pytest.mark.parametrize(("received", "passed"), [(0.091, True), (0.089, False)])
def test_a_relative_drop(received: float, passed: bool) -> None:
    # .1 less 10 % is .09; no errors.
    checks = check(measured(received, 0.1), measured(0.1, 0.1), EXACT, GatesConfig())
    found = by_name(checks)["recall@100/new overall against the blessed model"]
    assert found.passed is passed and found.received == received
    assert found.expected.startswith("at least 0.09000: 0.10000 less 10%")


@pytest.mark.parametrize(("received", "passed"), [(0.071, True), (0.069, False)])
def test_what_chance_does_is_no_drop(received: float, passed: bool) -> None:
    # .1 less 10 % is .09, less two errors of .01 is .07.
    candidate = measured(received, 0.1, error=0.01)
    assert is_blessed(check(candidate, measured(0.1, 0.1), EXACT, GatesConfig())) is passed


def test_a_model_that_forgot_the_tail_is_refused_for_it() -> None:
    # Overall rises by a half; of .008 in the tail .0039 is left, less than half.
    gates = GatesConfig(max_drop_tail=0.5)
    checks = check(measured(0.15, 0.0039), measured(0.1, 0.008), EXACT, gates)
    assert [each.name for each in refused(checks)] == [
        "recall@100/new tail against the blessed model"
    ]


def test_relative_checks_can_be_left_out() -> None:
    gates = GatesConfig(max_drop_overall=None, max_drop_tail=None)
    assert is_blessed(check(measured(0.0, 0.0), measured(0.9, 0.9), EXACT, gates))


def test_without_targets_in_the_tail_only_a_threshold_there_refuses() -> None:
    nothing, before = measured(0.1, None), measured(0.1, None)
    assert is_blessed(check(nothing, before, EXACT, GatesConfig()))
    wanted = refused(check(nothing, None, EXACT, GatesConfig(min_tail=0.001)))
    assert [(each.name, each.received) for each in wanted] == [("recall@100/new tail", None)]


def test_nan_passes_nothing() -> None:
    (overall, tail) = check(measured(float("nan"), float("inf")), None, EXACT, GatesConfig())
    assert not overall.passed and not tail.passed
    assert json.dumps([overall.as_json(), tail.as_json()], allow_nan=False)


@pytest.mark.parametrize(("recall", "passed"), [(0.95, True), (0.9, True), (0.899, False)])
def test_the_promise_of_the_index(recall: float, passed: bool) -> None:
    index = {"kind": "scann", "recall": recall}
    checks = check(measured(0.1, 0.1), None, index, GatesConfig(min_index_recall=0.9))
    assert by_name(checks)["recall of the index against exact"].passed is passed


def test_figures_of_other_data_are_no_baseline() -> None:
    with pytest.raises(LongtailError, match="same data, received d1 and d0; evaluate the blessed"):
        check(measured(0.1, 0.1), measured(0.1, 0.1, data="d0"), EXACT, GatesConfig())
    other = copy.deepcopy(measured(0.1, 0.1))
    other["buckets"]["head"]["items"] = 3
    with pytest.raises(LongtailError, match="same buckets"):
        check(measured(0.1, 0.1), other, EXACT, GatesConfig())


def test_an_unmeasured_k_is_told() -> None:
    with pytest.raises(
        LongtailError, match=r"recall@50 of mode new .*choose gates.k from .*\[10, 100\]"
    ):
        check(measured(0.1, 0.1), None, EXACT, GatesConfig(k=50))


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ValidationError):
        GatesConfig(min_overall=1.2)
    with pytest.raises(ValidationError):
        GatesConfig.model_validate({"min_recall": 0.1})


def test_the_section_belongs_to_the_configuration(root: Path) -> None:
    from pipelines.config import load

    config, _ = load(root / "configs" / "complete_journey.yaml", ["gates.min_overall=0.07"])
    assert config.gates == GatesConfig(min_overall=0.07)
