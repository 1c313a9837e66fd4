"""The evaluation step from files to files, on the synthetic data and an untrained model."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from preprocessing.base.artifacts import read_manifest, write_manifest
from preprocessing.base.errors import LongtailError
from preprocessing.base.progress import Stages
from tests.trainer import synthetic
from trainer import evaluate as step
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.examples_io import example_files
from trainer.evaluate import TwoTower, collect, evaluate, read_split
from trainer.evaluation.baselines.registry import BASELINES, REPEAT_ONLY
from trainer.evaluation.per_query import KNOWN, read_per_query
from trainer.evaluation.report.page import summary
from trainer.evaluation.retrieval import item_embeddings
from trainer.loop.build import BEST_WEIGHTS, build_model, load_model

EVALUATE: dict[str, Any] = {
    "ks": [5, 10],
    "als": {"factors": [4, 8], "iterations": 2},
    "batch_users": 20,
}


def write_user_items(data_dir: Path) -> None:
    """The pairs of the training examples; users by their transformed key."""
    pairs: Counter[tuple[int, int]] = Counter()
    for record in tf.data.TFRecordDataset(example_files(data_dir, "train")).as_numpy_iterator():
        fields = tf.train.Example.FromString(record).features.feature
        pairs[fields["user_key"].int64_list.value[0] - 1, fields["item"].int64_list.value[0]] += 1
    users, items = zip(*pairs, strict=True)
    table = {"user": users, "item": items, "events": list(pairs.values()), "last": [0] * len(pairs)}
    pq.write_table(pa.table(table), data_dir / "user_items.parquet")


def write_recent(data_dir: Path) -> None:
    """The recent counts as of each split, as if every event had just happened."""
    path = data_dir / "item_counts.parquet"
    table = pq.read_table(path)
    for name in ("recent_validation", "recent_test", "recent_now"):
        if name not in table.column_names:
            table = table.append_column(name, table["events"].cast(pa.float64()))
    pq.write_table(table, path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainerSections, Path]:
    """Data and a model that was never trained, but saved as training saves it."""
    work_dir = tmp_path_factory.mktemp("evaluate")
    data_dir, model_dir = work_dir / "data", work_dir / "model"
    synthetic.write_data(data_dir)
    write_user_items(data_dir)
    write_recent(data_dir)
    config = synthetic.make_config(work_dir, evaluate=EVALUATE)
    (model_dir / BEST_WEIGHTS).parent.mkdir(parents=True)
    build_model(config, data_dir).weights_checkpoint().write(str(model_dir / BEST_WEIGHTS))
    history = [{"step": 8, "loss": 3.5, "recall@10/all": 0.25, "recall@10/all/tail": float("nan")}]
    (model_dir / "history.json").write_text(json.dumps(history))
    write_manifest(model_dir, "trained", {"step": "train"})
    return config, work_dir


@pytest.fixture(scope="module")
def metrics(work: tuple[TrainerSections, Path]) -> dict[str, Any]:
    """The content of metrics.json as it is read back."""
    config, work_dir = work
    evaluate(
        config, work_dir / "data", work_dir / "model", work_dir / "evaluation", stages=silent()
    )
    loaded: dict[str, Any] = json.loads((work_dir / "evaluation" / "metrics.json").read_text())
    return loaded


def silent() -> Stages:
    return Stages(Console(file=io.StringIO()))


def test_every_ranker_split_mode_and_group_is_measured(metrics: dict[str, Any]) -> None:
    for split in ("validation", "test"):
        rankers = metrics["splits"][split]["rankers"]
        modes = {name: set(found) for name, found in rankers.items()}
        both = {"new", "all"}
        own = {name: {"all"} if name in REPEAT_ONLY else both for name in BASELINES}
        assert modes == {"model": both, **own}
        assert own["own_frequent"] == {"all"} and own["als"] == both
        for found in rankers.values():
            for cells in found.values():
                assert set(cells) == {"overall", "head", "torso", "tail", "unseen", "exposure"}
                assert {"recall@5", "recall@10/se", "ndcg@10", "mrr@5"} <= set(cells["overall"])
    assert (
        metrics["headline"]["recall@10/all"]
        == (metrics["splits"]["test"]["rankers"]["model"]["all"]["overall"]["recall@10"])
    )
    assert {"recall@10/new/tail", "ndcg@5/all/head", "coverage/new"} <= set(metrics["headline"])


def test_the_artifact_is_whole(metrics: dict[str, Any], work: tuple[TrainerSections, Path]) -> None:
    directory = work[1] / "evaluation"
    assert {path.name for path in directory.iterdir()} == {
        "metrics.json",
        "per_query.parquet",
        "plots.json",
        "report.html",
        "manifest.json",
    }
    manifest = read_manifest(directory)
    assert manifest is not None
    assert manifest["fingerprint"] == metrics["made"]["fingerprint"]
    assert manifest["headline"] == metrics["headline"]
    assert metrics["history"][0]["recall@10/all/tail"] is None
    # Nothing of this machine goes into what is passed on.
    assert str(work[1]) not in (directory / "metrics.json").read_text()
    assert str(work[1]) not in (directory / "report.html").read_text()


def test_figures_stand_on_the_users_of_the_data(
    metrics: dict[str, Any], work: tuple[TrainerSections, Path]
) -> None:
    split = read_split(work[0], work[1] / "data", "test", synthetic.ITEMS)
    assert metrics["splits"]["test"]["users"] == split.num_users == synthetic.USERS
    counts = pq.read_table(work[1] / "data" / "item_counts.parquet")
    events = np.concatenate([[0], counts["events"].to_numpy()])
    for mode in ("new", "all"):
        targets = split.targets_of(mode)
        known = events[targets.items] > 0
        cell = metrics["splits"]["test"]["rankers"]["als"][mode]["overall"]
        assert cell["targets"] == known.sum()
        assert cell["users"] == len(set(targets.users[known].tolist()))
    assert metrics["buckets"]["unseen"]["items"] == (events[1:] == 0).sum()


def test_hits_are_kept_by_query(
    metrics: dict[str, Any], work: tuple[TrainerSections, Path]
) -> None:
    found = read_per_query(work[1] / "evaluation" / "per_query.parquet")
    for key, each in found.items():
        assert len(set(each.users)) == synthetic.USERS
        cells = metrics["splits"][key.split]["rankers"][key.ranker][key.mode]
        for k in (5, 10):
            recall = np.nanmean(each.recall(KNOWN, k))
            assert recall == pytest.approx(cells["overall"][f"recall@{k}"], abs=1e-6)
    assert {key.ranker for key in found} == set(metrics["splits"]["test"]["rankers"])
    assert metrics["not_finite"] == 0 and metrics["enough_hits"] == 200


def test_popularity_is_measured_for_the_gates_where_it_is_not_reported(
    work: tuple[TrainerSections, Path],
) -> None:
    config = synthetic.make_config(work[1], evaluate={**EVALUATE, "baselines": []})
    metrics, by_query = collect(config, work[1] / "data", work[1] / "model", silent())
    assert set(metrics["splits"]["test"]["rankers"]) == {"model"}
    assert {key.ranker for key in by_query} == {"model", "popularity"}


def test_values_that_are_no_number_are_counted(work: tuple[TrainerSections, Path]) -> None:
    config, work_dir = work
    model = load_model(config, work_dir / "data", work_dir / "model")
    for table in model.query_tower.embeddings.tables.values():
        table.assign(np.full(table.shape, np.nan))
    metrics, _ = collect(config, work_dir / "data", model, silent())
    assert metrics["not_finite"] > 0


def test_above_max_users_a_sample_is_ranked_and_said(
    work: tuple[TrainerSections, Path], tmp_path: Path
) -> None:
    _, work_dir = work
    settings = {**EVALUATE, "max_users": 7, "baselines": ["popularity"]}
    config = synthetic.make_config(work_dir, evaluate=settings)
    whole = read_split(work[0], work_dir / "data", "test", synthetic.ITEMS)
    sample = read_split(config, work_dir / "data", "test", synthetic.ITEMS)
    assert (sample.num_users, sample.users_in_split) == (7, synthetic.USERS)
    rows = np.sort(np.random.default_rng(config.seed).choice(synthetic.USERS, 7, replace=False))
    assert (sample.seen != whole.seen[rows]).nnz == 0
    for row, own in enumerate(rows):
        theirs = whole.targets.items[whole.targets.users == own]
        assert sample.targets.items[sample.targets.users == row].tolist() == theirs.tolist()
        assert (sample.features["history"][row] == whole.features["history"][own]).all()
    found = evaluate(
        config, work_dir / "data", work_dir / "model", tmp_path / "evaluation", stages=silent()
    )
    assert found["splits"]["test"]["users"] == 7
    assert found["splits"]["test"]["users_in_split"] == synthetic.USERS
    said = f"a random sample of 7 of {synthetic.USERS}"
    assert any(said in line for line in summary(found))
    assert (
        f"a random sample of {synthetic.USERS}" in (tmp_path / "evaluation/report.html").read_text()
    )


def test_the_model_never_shows_what_was_seen(work: tuple[TrainerSections, Path]) -> None:
    config, work_dir = work
    model = load_model(config, work_dir / "data", work_dir / "model")
    ranker = TwoTower(model, {"test": item_embeddings(model, model.item_table)}, 20)
    split = read_split(config, work_dir / "data", "test", synthetic.ITEMS)
    seen = split.seen.toarray() > 0
    users = np.arange(split.num_users)[:, None]
    fresh = ranker.rank(split, synthetic.ITEMS, exclude_seen=True)
    # All that is left is shown once, the never-trained items too, and then padding.
    assert not seen[users, fresh][fresh > 0].any()
    assert ((fresh > 0).sum(axis=1) == synthetic.ITEMS - seen.sum(axis=1)).all()
    everything = ranker.rank(split, synthetic.ITEMS, exclude_seen=False)
    both = ranker.rank_by_mode(split, synthetic.ITEMS)
    assert (both["new"] == fresh).all() and (both["all"] == everything).all()
    assert (np.sort(everything, axis=1) == np.arange(1, synthetic.ITEMS + 1)).all()


def test_als_was_tuned_over_the_grid(metrics: dict[str, Any]) -> None:
    grid = metrics["tuning"]["tried"]["als"]
    assert set(metrics["tuning"]["tried"]) == {"als", "als_recent", "neighbours"}
    assert metrics["tuning"]["monitor"] == "recall@10/new"
    assert [point["factors"] for point in grid] == [4, 4, 4, 8]
    chosen = next(point for point in grid if point["chosen"])
    assert chosen["recall"] == max(point["recall"] for point in grid)
    # The chosen one is what validation was ranked with.
    ranked = metrics["splits"]["validation"]["rankers"]["als"]["new"]["overall"]
    assert ranked["recall@10"] == chosen["recall"]


def test_differences_are_those_of_the_means(metrics: dict[str, Any]) -> None:
    test = metrics["splits"]["test"]
    for name, modes in test["model_minus"].items():
        for mode, groups in modes.items():
            ours, theirs = (
                test["rankers"][who][mode]["overall"]["recall@10"] for who in ("model", name)
            )
            assert groups["overall"]["difference"] == pytest.approx(ours - theirs, abs=2e-6)


def test_a_current_evaluation_is_not_repeated(
    metrics: dict[str, Any], work: tuple[TrainerSections, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, work_dir = work
    directories = (work_dir / "data", work_dir / "model", work_dir / "evaluation")

    def repeated(*_: Any) -> None:
        raise AssertionError("ranked again")

    monkeypatch.setattr(step, "collect", repeated)
    assert evaluate(config, *directories, stages=silent()) == metrics
    others = [
        synthetic.make_config(work_dir, evaluate={**EVALUATE, "ks": [10]}),
        config.model_copy(update={"seed": 8}),
    ]
    for other in others:
        with pytest.raises(AssertionError, match="ranked again"):
            evaluate(other, *directories, stages=silent())
    # A failure leaves what was there.
    assert json.loads((directories[2] / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize(("missing", "verb"), [("data", "preprocess"), ("model", "train")])
def test_unfinished_inputs(
    work: tuple[TrainerSections, Path], tmp_path: Path, missing: str, verb: str
) -> None:
    config, work_dir = work
    given = {name: work_dir / name for name in ("data", "model")}
    given[missing] = tmp_path / missing
    with pytest.raises(LongtailError, match=f"run {verb} first"):
        evaluate(config, given["data"], given["model"], tmp_path / "evaluation", stages=silent())
    assert not (tmp_path / "evaluation").exists()


def test_a_test_on_nobody_is_an_error(
    work: tuple[TrainerSections, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, work_dir = work
    whole = step.evaluation_queries

    def nobody(data_dir: Path, split: str, *_: Any) -> Any:
        return whole(data_dir, split, 0 if split == "test" else None)

    monkeypatch.setattr(step, "evaluation_queries", nobody)
    with pytest.raises(LongtailError, match=r"nobody of the split 'test' has a target"):
        evaluate(config, work_dir / "data", work_dir / "model", tmp_path / "out", stages=silent())
    assert not (tmp_path / "out").exists()


def test_the_module_runs(
    metrics: dict[str, Any],
    work: tuple[TrainerSections, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, _ = work
    path = tmp_path / "shop.yaml"
    document = config.model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(document))
    assert step.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "recall@10 on test" in printed
    assert "report.html" in printed
    assert step.main([str(path), "--set", "evaluate.ks=[3,2]"]) == 2
    assert "rising order" in capsys.readouterr().err
