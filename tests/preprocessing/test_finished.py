"""What a step refuses to begin with: nothing, data of other settings, a model of other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from preprocessing.base.artifacts import read_manifest, write_manifest
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections
from preprocessing.finished import finished, finished_data, finished_model, settings


def config(dim: int = 8, **sections: Any) -> DataSections:
    document: dict[str, Any] = {
        "name": "shop",
        "work_dir": "runs/shop",
        "data": {
            "interactions": {"path": "log.csv"},
            "columns": {"user": "user", "item": "item", "timestamp": "at", "reward": "stars"},
        },
        "features": [
            {"name": "user_key", "column": "user", "side": "query", "kind": "id", "dim": dim},
            {"name": "product", "column": "item", "side": "item", "kind": "id", "dim": dim},
            sequence("bought", 20),
        ],
        "preprocess": {},
    }
    for name, values in sections.items():
        document[name] = [*document[name], *values] if name == "features" else values
    return parse_config(document, DataSections, "shop")


def sequence(name: str, length: int) -> dict[str, Any]:
    shared = {"kind": "sequence", "shared_with": "product", "max_length": length}
    return {"name": name, "side": "query", **shared}


def columns(**others: Any) -> dict[str, Any]:
    return {
        "interactions": {"path": "elsewhere/*.parquet"},
        "columns": {"user": "user", "item": "item", "timestamp": "at", "reward": "stars"},
        **others,
    }


def test_what_is_not_there_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match=r"found no manifest\.json: run export first"):
        finished(tmp_path, "export")
    with pytest.raises(LongtailError, match="run preprocess first"):
        finished_data(tmp_path, config())
    with pytest.raises(LongtailError, match="run train first"):
        finished_model(tmp_path, {"fingerprint": "a"})


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"seed": 3},
        {"work_dir": "/gcs/bucket/shop"},
        {"data": columns(any_time_range=True)},
        {"dim": 16},
        {"features": [sequence("again", 20)]},
        {"preprocess": {"rows_per_partition": 7, "runner": "FlinkRunner", "beam_options": ["--x"]}},
        {"preprocess": {"half_life_days": config().preprocess.half_life_days}},
    ],
)
def test_where_rows_come_from_and_how_work_is_cut_does_not_matter(
    tmp_path: Path, same: dict[str, Any]
) -> None:
    write_manifest(tmp_path, "a", {"settings": settings(config())})
    assert finished_data(tmp_path, config(**same)) == read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (
            {"features": [{"name": "brand", "side": "context", "kind": "categorical", "dim": 4}]},
            "features",
        ),
        ({"preprocess": {"half_life_days": 3.0}}, "preprocess"),
        ({"features": [sequence("again", 21)]}, "histories"),
        (
            {"data": columns(min_reward=1.0), "preprocess": {"examples": "first"}},
            "data and preprocess",
        ),
    ],
)
def test_data_of_other_settings_are_refused(
    tmp_path: Path, other: dict[str, Any], named: str
) -> None:
    write_manifest(tmp_path, "a", {"settings": settings(config())})
    with pytest.raises(LongtailError, match=f"made with another {named}: run preprocess again"):
        finished_data(tmp_path, config(**other))


def test_longer_histories_are_cut(tmp_path: Path) -> None:
    longer = settings(config(features=[sequence("again", 50)]))
    write_manifest(tmp_path, "a", {"settings": longer})
    assert finished_data(tmp_path, config())["settings"]["histories"] == 50


def test_rewards_are_weights_only_where_those_below_0_were_rejected(tmp_path: Path) -> None:
    weighted = config(data=columns(reward_weights=True))
    write_manifest(tmp_path, "a", {"settings": settings(config())})
    with pytest.raises(LongtailError, match="made with another rewards as weights: run preprocess"):
        finished_data(tmp_path, weighted)
    write_manifest(tmp_path, "a", {"settings": settings(weighted)})
    assert finished_data(tmp_path, config()) == finished_data(tmp_path, weighted)


def test_data_of_another_format_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, "a", {"settings": settings(config()) | {"format": 1}})
    with pytest.raises(LongtailError, match="made with another format: run preprocess again"):
        finished_data(tmp_path, config())


def test_a_model_of_other_data_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, "m", {"data_fingerprint": "a"})
    assert finished_model(tmp_path, {"fingerprint": "a"})["fingerprint"] == "m"
    with pytest.raises(LongtailError, match=r"one trained on others, .*: run train again"):
        finished_model(tmp_path, {"fingerprint": "b"})
