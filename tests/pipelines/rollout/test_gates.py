"""Gates by hand: what passes, what is refused, what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.rollout.gates import Check, GatesConfig, check, failed_checks, is_blessed
from preprocessing.base.errors import LongtailError
from tests.pipelines.evidence import blessed, evidence, per_query

EXACT: dict[str, Any] = {"kind": "exact"}
QUERIES = 100


def finds(
    head: int,
    tail: int,
    queries: int = QUERIES,
    spread: int = 0,
    longer: dict[int, int] | None = None,
) -> Any:
    """Hits at 100 of each query in head and tail; of every second query `spread` more, of the others less."""
    signs = np.resize([1, -1], queries) * spread
    lists = {100: tail, **(longer or {})}
    return per_query(
        {
            "head": {k: (head + signs).tolist() for k in lists},
            "tail": {k: [each] * queries for k, each in lists.items()},
        }
    )


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {each.name: each for each in checks}


def names(checks: list[Check]) -> list[str]:
    return [each.name for each in checks]


def test_the_first_model_is_judged_by_itself() -> None:
    # 30 targets a query, 3 hits: recall 0.1.
    checks = check(evidence(finds(3, 0)), [], EXACT, GatesConfig(min_overall=0.1))
    assert names(checks) == [
        "queries with a target",
        "values of embeddings that are no number",
        "recall@100/new overall",
        "recall@100/new overall less popularity",
    ]
    assert is_blessed(checks)
    low = check(evidence(finds(2, 0)), [], EXACT, GatesConfig(min_overall=0.1))
    assert names(failed_checks(low)) == ["recall@100/new overall"]
    assert str(low[2]) == "recall@100/new overall: expected at least 0.1, received 0.06667"


def test_an_evaluation_on_nobody_passes_nothing() -> None:
    nobody = evidence(per_query({"head": {100: []}, "tail": {100: []}}))
    checks = check(nobody, [], EXACT, GatesConfig())
    assert not is_blessed(checks)
    assert "queries with a target" in names(failed_checks(checks))
    # Queries there are, but none with a target.
    idle = evidence(per_query({"head": {100: [0, 0]}}, targets=0))
    assert "queries with a target" in names(failed_checks(check(idle, [], EXACT, GatesConfig())))
    assert not is_blessed([])


def test_a_model_that_finds_nothing_is_refused_whatever_popularity_finds() -> None:
    gates = GatesConfig(min_over_popularity=None)
    assert names(failed_checks(check(evidence(finds(0, 0)), [], EXACT, gates))) == [
        "recall@100/new overall"
    ]


def test_embeddings_without_numbers_are_refused() -> None:
    checks = check(evidence(finds(3, 1), not_finite=64), [], EXACT, GatesConfig())
    (found,) = failed_checks(checks)
    assert str(found) == ("values of embeddings that are no number: expected 0, received 64.00000")


def test_a_model_below_popularity_is_refused() -> None:
    # Ours: 1 and 3 hits in turn, popularity 3: differences -2/30 and 0, mean -1/30, standard
    # deviation 1/30 * sqrt(100/99), error 0.003350; two errors are 0.0067, less than 0.0333.
    checks = check(evidence(finds(2, 0, spread=1), finds(3, 0)), [], EXACT, GatesConfig())
    (found,) = failed_checks(checks)
    assert found.name == "recall@100/new overall less popularity"
    assert found.received == pytest.approx(-1 / 30)
    assert found.expected == "at least -0.00670: 0 less 2 standard errors of 0.00335"
    # Above it by as much, it passes; so does a model of which no more is asked.
    assert is_blessed(check(evidence(finds(4, 0, spread=1), finds(3, 0)), [], EXACT, GatesConfig()))
    free = GatesConfig(min_over_popularity=None)
    assert is_blessed(check(evidence(finds(2, 0, spread=1), finds(3, 0)), [], EXACT, free))


def test_what_chance_does_is_not_below_popularity() -> None:
    # Differences +3/30 and -3/30 over 4 queries, and one of -1/30 more: within two errors of 0.
    ours = per_query({"head": {100: [6, 0, 6, 0, 2]}})
    checks = check(evidence(ours, per_query({"head": {100: [3] * 5}})), [], EXACT, GatesConfig())
    found = by_name(checks)["recall@100/new overall less popularity"]
    assert found.passed and found.received == pytest.approx(-1 / 150)


@pytest.mark.parametrize(("hits", "passed"), [(9, True), (8, False)])
def test_a_relative_drop(hits: int, passed: bool) -> None:
    # 10 hits less 10 % are 9, in each query alike: no error.
    before = blessed(evidence(finds(10, 10)))
    checks = check(evidence(finds(hits, 10)), [before], EXACT, GatesConfig(max_drop_overall=0.05))
    # In recall: 20 of 30 before, 5 % of 0.66667 may go, that is one hit.
    found = by_name(checks)["recall@100/new overall against the blessed model"]
    assert found.passed is passed
    assert found.expected == (
        "a difference of at least -0.03333: 5% of 0.66667 and 2 standard errors of 0.00000"
    )
    assert found.received == pytest.approx((hits - 10) / 30)


def test_differences_are_paired_by_query() -> None:
    # The queries differ by far more than the models: 0 to 20 hits of 30, and each model loses one
    # hit a query. Unpaired, two errors of a mean are 2 * 0.33 * 0.5 = 0.07; paired they are 0.
    many = np.resize([0, 10], QUERIES)
    before = per_query({"head": {100: (many + 1).tolist()}})
    after = per_query({"head": {100: many.tolist()}})
    gates = GatesConfig(max_drop_tail=None)
    # Recall 0.2 before, 0.16667 now: a sixth less, more than a tenth.
    checks = check(evidence(after), [blessed(evidence(before))], EXACT, gates)
    assert names(failed_checks(checks)) == ["recall@100/new overall against the blessed model"]


def test_only_common_queries_are_compared_in_any_order() -> None:
    ours = per_query({"head": {100: [4, 8, 1]}}, [b"a", b"b", b"c"])
    theirs = per_query({"head": {100: [9, 8, 4]}}, [b"x", b"b", b"a"])
    gates = GatesConfig(max_drop_tail=None)
    checks = check(evidence(ours), [blessed(evidence(theirs))], EXACT, gates)
    found = by_name(checks)["recall@100/new overall against the blessed model"]
    assert found.passed and found.received == 0.0


def test_models_without_a_common_query_cannot_be_told_to_be_alike() -> None:
    ours = per_query({"head": {100: [4, 8]}}, [b"a", b"b"])
    theirs = per_query({"head": {100: [4, 8]}}, [b"x", b"y"])
    checks = check(
        evidence(ours), [blessed(evidence(theirs))], EXACT, GatesConfig(max_drop_tail=None)
    )
    assert [(c.name, c.received) for c in failed_checks(checks)] == [
        ("recall@100/new overall against the blessed model", None)
    ]


def test_losing_the_tail_is_refused_whatever_the_head_does() -> None:
    # 3 hits a query in the tail before, 1 now: a third, less than half; 400 hits of both.
    before, after = evidence(finds(3, 3)), evidence(finds(9, 1))
    checks = check(after, [blessed(before)], EXACT, GatesConfig())
    assert names(failed_checks(checks)) == ["recall@100/new tail against the blessed model"]


def test_the_demo_s_tail_is_measured_where_it_is_hit_often_enough() -> None:
    """Figures as of Complete Journey: the tail at 100 is hit a few dozen times by 2,064 households."""
    users = 2064

    def model(at_100: int, at_1000: int) -> Any:
        tail = {100: np.zeros(users, int), 1000: np.zeros(users, int)}
        tail[100][:at_100] = 1
        tail[1000][:at_1000] = 1
        hits = {
            "head": dict.fromkeys(tail, [5] * users),
            "tail": {k: v.tolist() for k, v in tail.items()},
        }
        return evidence(per_query(hits))

    before = blessed(model(30, 400))
    # At 100: half of 30 hits and two errors of a difference of 30 are less than none. Any model passed.
    checks = check(model(0, 0), [before], EXACT, GatesConfig())
    (found,) = failed_checks(checks)
    assert found.name == (
        "recall@1000/new tail against the blessed model (instead of the tail at 100, hit 30 times)"
    )
    # 400 hits in 20,640 targets: 0.01938. Without any hit the difference is -0.01938; two errors
    # are 2 * sqrt(0.1938 * 0.8062 / 2063) / 10 = 0.00174.
    assert found.received == pytest.approx(-0.01938, abs=1e-5)
    assert found.expected == (
        "a difference of at least -0.01143: 50% of 0.01938 and 2 standard errors of 0.00087"
    )
    # A third of it is too little, two thirds are enough.
    assert not is_blessed(check(model(0, 133), [before], EXACT, GatesConfig()))
    assert is_blessed(check(model(0, 266), [before], EXACT, GatesConfig()))


def test_a_wider_bucket_takes_over_where_no_list_is_long_enough() -> None:
    hits = {"tail": {10: [1] * 5}, "torso": {10: [8] * 5}, "head": {10: [9] * 5}}
    before = evidence(per_query(hits), enough=60, ks=(10,))
    lost = evidence(per_query({**hits, "torso": {10: [1] * 5}}), enough=60, ks=(10,))
    # Tail: 10 hits of both; with the torso 45 and 10 make 55, still fewer than 60, and told.
    checks = check(lost, [blessed(before)], EXACT, GatesConfig(max_drop_overall=None))
    (found,) = failed_checks(checks)
    assert found.name == (
        "recall@10/new torso and tail against the blessed model (55 hits of both, fewer than 60)"
    )
    same = check(before, [blessed(before)], EXACT, GatesConfig(max_drop_overall=None))
    assert names(same)[-1] == (
        "recall@10/new torso and tail against the blessed model (instead of the tail at 10, hit 10 times)"
    )


def test_a_handful_of_hits_refuses_nobody_and_says_so() -> None:
    before = evidence(per_query({"head": {10: [5, 5]}, "tail": {10: [1, 0]}}), ks=(10,))
    after = evidence(per_query({"head": {10: [5, 5]}, "tail": {10: [0, 0]}}), ks=(10,))
    checks = check(after, [blessed(before)], EXACT, GatesConfig())
    found = by_name(checks)[
        "recall@10/new torso and tail against the blessed model (1 hits of both, fewer than 200)"
    ]
    assert found.passed and found.received is None and found.expected == "more hits to compare"


def test_a_loss_that_is_all_chance_would_allow_still_has_to_leave_something() -> None:
    # 12 hits of one query alone: two errors of that are larger than the recall itself.
    hits = {"head": {10: [5] * 4}, "tail": {10: [12, 0, 0, 0]}}
    before = evidence(per_query(hits, targets=12), ks=(10,))
    after = evidence(per_query({**hits, "tail": {10: [0] * 4}}, targets=12), ks=(10,))
    checks = check(after, [blessed(before)], EXACT, GatesConfig(max_drop_overall=None))
    assert [c.name.split(" (")[0] for c in failed_checks(checks)] == [
        "recall@10/new torso and tail against the blessed model"
    ]


def test_losses_do_not_add_up_from_day_to_day() -> None:
    # 8 % a day: against the day before each passes, against the best of late the second does not.
    best, yesterday = evidence(finds(10, 10)), evidence(finds(8, 10))
    gates = GatesConfig(max_drop_overall=0.1)
    today = evidence(finds(7, 10))
    assert is_blessed(check(today, [blessed(yesterday)], EXACT, gates))
    late = blessed(best, "version 3, the best of late", ("overall",))
    checks = check(today, [blessed(yesterday), late], EXACT, gates)
    assert names(failed_checks(checks)) == [
        "recall@100/new overall against version 3, the best of late"
    ]
    assert not [c for c in checks if "tail against version 3" in c.name]


def test_relative_checks_can_be_left_out() -> None:
    gates = GatesConfig(max_drop_overall=None, max_drop_tail=None)
    assert gates.drops() == {}
    assert is_blessed(check(evidence(finds(1, 0)), [blessed(evidence(finds(9, 9)))], EXACT, gates))


def test_a_tail_that_is_asked_for_has_to_be_there() -> None:
    gates = GatesConfig(min_tail=0.001)
    assert names(failed_checks(check(evidence(finds(1, 0)), [], EXACT, gates))) == [
        "recall@100/new tail"
    ]
    assert is_blessed(check(evidence(finds(1, 1)), [], EXACT, gates))


def test_nan_passes_nothing() -> None:
    candidate = evidence(finds(3, 3))
    cells = candidate.metrics["splits"]["test"]["rankers"]["model"]["new"]
    cells["overall"]["recall@100"], cells["tail"]["recall@100"] = float("nan"), float("inf")
    for gates in (GatesConfig(min_tail=0.01), GatesConfig(min_overall=0.01, min_tail=0.01)):
        checks = check(candidate, [], EXACT, gates)
        assert names(failed_checks(checks)) == ["recall@100/new overall", "recall@100/new tail"]
        assert json.dumps([each.as_json() for each in checks], allow_nan=False)


@pytest.mark.parametrize(("recall", "passed"), [(0.95, True), (0.9, True), (0.899, False)])
def test_the_promise_of_the_index(recall: float, passed: bool) -> None:
    index = {"kind": "scann", "recall": recall}
    checks = check(evidence(finds(3, 3)), [], index, GatesConfig(min_index_recall=0.9))
    assert by_name(checks)["recall of the index against exact"].passed is passed


def test_figures_of_other_data_are_no_baseline() -> None:
    with pytest.raises(LongtailError, match="same data, received d1 and d0; evaluate the blessed"):
        check(
            evidence(finds(3, 3)), [blessed(evidence(finds(3, 3), data="d0"))], EXACT, GatesConfig()
        )
    other = evidence(finds(3, 3))
    other.metrics["buckets"]["head"]["items"] = 3
    with pytest.raises(LongtailError, match="same buckets"):
        check(evidence(finds(3, 3)), [blessed(other)], EXACT, GatesConfig())


def test_an_unmeasured_k_is_told() -> None:
    with pytest.raises(
        LongtailError, match=r"recall@50 of mode new .*choose gates.k from .*\[10, 100\]"
    ):
        check(evidence(finds(3, 3)), [], EXACT, GatesConfig(k=50))


def test_impossible_thresholds_are_refused() -> None:
    for wrong in ({"min_overall": 1.2}, {"min_recall": 0.1}, {"min_users": 1}, {"best_of": -1}):
        with pytest.raises(ValidationError):
            GatesConfig.model_validate(wrong)


def test_the_section_belongs_to_the_configuration(root: Path) -> None:
    from pipelines.config import load

    config, _ = load(root / "configs" / "complete_journey.yaml", ["gates.min_overall=0.07"])
    assert config.gates == GatesConfig(min_overall=0.07)
