"""From evaluations to labels: what is judged with what, and what a refusal leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines import local
from pipelines.config import Paths, RunConfig
from pipelines.rollout import rollout
from pipelines.rollout.references import BLESSING
from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.export.folder import read_labels, version_paths
from serving.export.labels import move_label
from serving.export.run import ASSETS
from tests.pipelines.evidence import evidence, per_query
from tests.pipelines.rollout.test_final_fit import config, version
from trainer.evaluation.per_query import PER_QUERY, PerQuery, write_per_query

QUIET = Console(quiet=True)


def finds(head: int, tail: int, queries: int = 100) -> PerQuery:
    return per_query({"head": {100: [head] * queries}, "tail": {100: [tail] * queries}})


class Shop:
    """Days whose evaluations are made up; all on the same data."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(root / "day", "shop", root / "export")

    def day(self, model: PerQuery, *, again: bool = False, **gates: Any) -> str:
        """Rolls a model out, or the last candidate again; the name of its version."""
        found, paths = evidence(model), self.paths
        metrics = {**found.metrics, "made": {"data_fingerprint": "d1", "fingerprint": "e"}}
        paths.evaluation.mkdir(parents=True, exist_ok=True)
        write_per_query(paths.evaluation / PER_QUERY, found.by_query)
        number = len(list(paths.candidate.glob("*"))) + 1
        made = paths.candidate / str(number - 1)
        if not again:
            made = version(paths.candidate / str(number), f"model {number}")
        return rollout.roll_out(self.config(**gates), paths, made, metrics, QUIET).name

    def config(self, **gates: Any) -> RunConfig:
        made = config(self.root, final_fit="none")
        return made.model_copy(update={"gates": made.gates.model_copy(update=gates)})

    @property
    def label(self) -> int | None:
        return read_labels(str(self.paths.export)).get("stable")

    def checks(self) -> list[str]:
        judged = json.loads((self.paths.evaluation / "gates.json").read_text())["checks"]
        return [check["name"] for check in judged]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(rollout, "write_page", lambda *_: None)  # made-up figures make no report
    return Shop(tmp_path)


def test_a_served_version_keeps_what_the_next_is_compared_with(shop: Shop) -> None:
    assert shop.day(finds(9, 3)) == "1" and shop.label == 1
    extra = shop.paths.export / "1" / ASSETS
    assert {BLESSING, "metrics.json", PER_QUERY} <= {path.name for path in extra.iterdir()}
    assert not any("blessed model" in name for name in shop.checks())
    assert shop.day(finds(9, 3)) == "2" and shop.label == 2
    assert "recall@100/new tail against the blessed model" in shop.checks()


@pytest.mark.parametrize(("name", "text"), [("models.config", "# mine\n"), ("labels.json", "[]")])
def test_a_run_refuses_what_it_could_not_write_before_it_reads_anything(
    shop: Shop, name: str, text: str
) -> None:
    shop.paths.export.mkdir(parents=True)
    (shop.paths.export / name).write_text(text)
    with pytest.raises(LongtailError, match=f"{name}: expected"):
        local.run(shop.config(), shop.paths, QUIET)  # whose sources do not exist
    assert (shop.paths.export / name).read_text() == text
    assert list(shop.root.iterdir()) == [shop.root / "export"]


def test_a_blessing_holds_for_the_gates_and_the_served_version_that_it_was_given_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blessed_and_killed(*_: Any) -> None:
        raise KeyboardInterrupt

    shop.day(finds(9, 3))
    with monkeypatch.context() as during:
        during.setattr(rollout, "_publish", blessed_and_killed)
        with pytest.raises(KeyboardInterrupt):
            shop.day(finds(9, 3))
    assert (shop.paths.candidate / "1" / ASSETS / BLESSING).is_file()
    with pytest.raises(LongtailFailure, match=r"overall: expected .*label stable stays at 1"):
        shop.day(finds(9, 3), again=True, min_overall=0.99)
    assert not (shop.paths.candidate / "1" / ASSETS / BLESSING).exists()
    assert shop.day(finds(9, 3), again=True) == "2"


def test_a_blessing_that_still_holds_is_not_judged_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(rollout, "_publish", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.day(finds(9, 3))
    monkeypatch.setattr(rollout, "_judge", killed)
    assert shop.day(finds(9, 3), again=True) == "1" and shop.label == 1


def test_a_label_that_another_run_moved_in_between_is_compared_with(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.day(finds(9, 3))
    fitted, other = rollout.final_fit.fitted, Shop(shop.root)
    other.paths = Paths(shop.root / "other", "shop", shop.root / "export")

    def while_another_run_ends(*given: Any, **how: Any) -> Path:
        with monkeypatch.context() as before:
            before.setattr(rollout.final_fit, "fitted", fitted)
            assert other.day(finds(9, 9)) == "2"
        return fitted(*given, **how)

    with monkeypatch.context() as during:
        during.setattr(rollout.final_fit, "fitted", while_another_run_ends)
        with pytest.raises(LongtailFailure, match=r"label stable moved from 1 to 2 .*run again"):
            shop.day(finds(9, 3))
    assert shop.label == 2 and sorted(version_paths(shop.paths.export)) == [1, 2]
    with pytest.raises(LongtailFailure, match="tail"):
        shop.day(finds(9, 3), again=True)  # as good as 1, not as 2


def test_a_published_version_without_its_label_is_judged_by_what_serves_now(shop: Shop) -> None:
    shop.day(finds(9, 3))
    assert shop.day(finds(9, 3)) == "2"
    move_label(shop.paths.export, "stable", 1)  # as if killed between the version and its label
    metrics = {
        **evidence(finds(9, 3)).metrics,
        "made": {"data_fingerprint": "d1", "fingerprint": "e"},
    }
    published = shop.paths.export / "2"
    with pytest.raises(LongtailFailure, match="overall"):
        rollout.roll_out(shop.config(min_overall=0.99), shop.paths, published, metrics, QUIET)
    assert shop.label == 1
    assert rollout.roll_out(shop.config(), shop.paths, published, metrics, QUIET) == published
    assert shop.label == 2


def test_an_evaluation_on_nobody_moves_no_label(shop: Shop) -> None:
    with pytest.raises(LongtailFailure, match=r"queries with a target: .*nothing is served"):
        shop.day(finds(0, 0, queries=0))
    assert shop.label is None and not version_paths(shop.paths.export)
    shop.day(finds(9, 3))
    with pytest.raises(LongtailFailure, match="label stable stays at 1"):
        shop.day(finds(0, 0, queries=0))
    assert shop.label == 1 and sorted(version_paths(shop.paths.export)) == [1]


def test_small_losses_do_not_add_up(shop: Shop) -> None:
    # 20 hits in all, then 19, 18, 17: each less than a tenth against the day before.
    shop.day(finds(10, 10))
    shop.day(finds(9, 10))
    shop.day(finds(8, 10))
    with pytest.raises(LongtailFailure, match="overall against version 1, the best of late"):
        shop.day(finds(7, 10))
    assert shop.label == 3
    # Without a memory it would have passed.
    assert shop.day(finds(7, 10), best_of=0) == "4"


def test_a_version_that_was_rolled_back_is_not_compared_with(shop: Shop) -> None:
    shop.day(finds(8, 10))
    shop.day(finds(10, 10))
    rollout.roll_back(shop.config(), shop.paths, QUIET)
    assert shop.label == 1
    # Against the second it were a fifth less; it was taken back for good reasons.
    assert shop.day(finds(7, 10)) == "3"
    assert not any("version 2" in name for name in shop.checks())
