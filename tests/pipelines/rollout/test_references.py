"""Which blessed models are compared with: the one in service, and the best of late on its own day."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.rollout.gates import Evidence, GatesConfig
from pipelines.rollout.references import BLESSING, best_blessed, references
from preprocessing.base.errors import LongtailError
from serving.export.labels import withdraw
from serving.export.run import ASSETS
from tests.pipelines.evidence import evidence, per_query
from trainer.evaluation.per_query import PER_QUERY, write_per_query

GATES = GatesConfig()


def version(folder: Path, number: int, model: int, popularity: int, tail: int = 1) -> None:
    """A blessed version whose model and popularity had so many hits of 10 in each query of its day."""
    extra = folder / str(number) / ASSETS
    extra.mkdir(parents=True)
    (extra / BLESSING).write_text("{}")
    found = evidence(
        per_query({"head": {100: [model] * 3}, "tail": {100: [tail] * 3}}),
        per_query({"head": {100: [popularity] * 3}}),
    )
    write_per_query(extra / PER_QUERY, found.by_query)


def numbers(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_the_best_is_told_by_its_lead_over_popularity_on_its_own_day(tmp_path: Path) -> None:
    # (model + tail) / popularity: 6/5 on the first day, 9/8 on the second, 4/4 on the third.
    version(tmp_path, 1, 5, 5, tail=1)
    version(tmp_path, 2, 7, 8, tail=2)
    version(tmp_path, 3, 1, 4, tail=3)
    best = best_blessed(tmp_path, GATES, 100)
    assert numbers(best["overall"]) == ["1", "2", "3"]
    assert numbers(best["tail"]) == ["3", "2", "1"]
    assert set(best_blessed(tmp_path, GatesConfig(max_drop_tail=None), 100)) == {"overall"}


def test_only_the_last_that_stand_count(tmp_path: Path) -> None:
    for number, hits in ((1, 9), (2, 8), (3, 7), (4, 6)):
        version(tmp_path, number, hits, 4)
    (tmp_path / "5" / ASSETS).mkdir(parents=True)  # exported past the gates
    assert numbers(best_blessed(tmp_path, GatesConfig(best_of=2), 100)["overall"]) == ["3", "4"]
    withdraw(tmp_path, 3)
    assert numbers(best_blessed(tmp_path, GatesConfig(best_of=2), 100)["overall"]) == ["2", "4"]
    (tmp_path / "2" / ASSETS / PER_QUERY).unlink()  # of an older format
    assert numbers(best_blessed(tmp_path, GatesConfig(best_of=2), 100)["overall"]) == ["4"]
    assert best_blessed(tmp_path, GatesConfig(best_of=0), 100) == {"overall": [], "tail": []}


def test_what_is_compared_with() -> None:
    asked: list[int] = []
    told: list[str] = []

    def measure(number: int) -> Evidence:
        asked.append(number)
        if number == 7:
            raise LongtailError("its run is gone")
        return evidence(per_query({"head": {100: [number]}}))

    def found(serving: int | None, overall: list[int], tail: list[int]) -> list[tuple[str, str]]:
        asked.clear()
        best = {"overall": overall, "tail": tail}
        made = references(
            serving,
            best,
            besides=[9],
            measure=measure,
            name=lambda n: f"version {n}",
            tell=told.append,
        )
        return [(each.name, "+".join(each.groups)) for each in made]

    assert found(None, [], []) == []
    served = ("the blessed model", "overall+tail")
    # Nothing of late is better than the one in service, or than the candidate itself.
    assert found(4, [4, 3], [9, 4]) == [served] and asked == [4]
    assert found(4, [3, 4], [2, 3]) == [
        served, ("version 3, the best of late", "overall"), ("version 2, the best of late", "tail")
    ]  # fmt: skip
    assert found(4, [3, 4], [3, 4]) == [served, ("version 3, the best of late", "overall+tail")]
    assert asked == [4, 3]
    # The next best stands in for one that cannot be measured any more; the one in service cannot be replaced.
    assert found(4, [7, 3, 4], [4]) == [served, ("version 3, the best of late", "overall")]
    assert told == ["not compared with version 7, the best of late (overall): its run is gone"]
    with pytest.raises(LongtailError, match="its run is gone"):
        found(7, [], [])
