"""The feature list and the configuration file: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from preprocessing.base.config_io import load_config, parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections
from preprocessing.features import Feature, checked_features
from serving.config import ServingSections

USER = {"name": "customer", "side": "query", "kind": "id", "column": "user"}
ITEM = {"name": "sku", "side": "item", "kind": "id"}


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "shop",
        "work_dir": "runs/shop",
        "data": {
            "interactions": {"path": "log.csv"},
            "columns": {"user": "user", "item": "sku", "timestamp": "at"},
        },
        "features": [
            {"name": "customer", "side": "query", "kind": "id", "column": "user"},
            ITEM,
            {"name": "bought", "side": "query", "kind": "sequence", "shared_with": "sku"},
        ],
    }
    return base | changes


def refused(changed: dict[str, Any], schema: type[Any] = DataSections) -> str:
    with pytest.raises(LongtailError) as error:
        parse_config(changed, schema, "file.yaml")
    return str(error.value)


def test_a_valid_file_gives_the_feature_views() -> None:
    config = parse_config(document(), DataSections, "file.yaml")
    listed = config.feature_list
    assert listed.query_columns.names == ["customer"]
    assert listed.item_columns.names == ["sku"]
    assert listed.sequences.names == ["bought"]
    assert listed.table_of(listed.get("bought")) == "sku"
    assert listed.history_length == 50


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trian": {}}, ["unknown section trian", "train"]),
        ({"preprocess": {"splitt": 1}}, ["preprocess.splitt", "unknown key"]),
        (
            {"preprocess": {"batch_rows": 0}},
            ["preprocess.batch_rows", "greater than 0", "received 0"],
        ),
        (
            {"preprocess": {"split": {"validation": 0.6, "test": 0.5}}},
            ["preprocess.split", "below 1", "0.6 + 0.5"],
        ),
        ({"preprocess": {"split": {"method": "column"}}}, ["data.columns.split is missing"]),
        ({"seed": -1}, ["seed", "received -1"]),
        (
            {"data": {"interactions": {"path": "log.xyz"}, "columns": {}}},
            ["log.xyz", "ending", "columns.user"],
        ),
    ],
)
def test_wrong_values_are_named_with_path_expected_and_received(
    changes: dict[str, Any], words: list[str]
) -> None:
    message = refused(document(**changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([USER, ITEM, ITEM], ["received twice: sku"]),
        ([ITEM], ["side 'query' is missing"]),
        ([USER], ["side 'item' is missing"]),
        ([USER, {**ITEM, "name": "reward"}], ["reserved", "reward"]),
        (
            [USER, ITEM, {"name": "h", "side": "query", "kind": "sequence", "shared_with": "nope"}],
            ["'nope'"],
        ),
        (
            [
                USER,
                ITEM,
                {"name": "h", "side": "query", "kind": "sequence", "shared_with": "customer"},
            ],
            ["embedded item feature"],
        ),
    ],
)
def test_wrong_feature_lists_are_refused(features: list[dict[str, Any]], words: list[str]) -> None:
    with pytest.raises(ValueError, match=" ") as error:
        checked_features([Feature(**f) for f in features])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "h", "side": "item", "kind": "sequence", "shared_with": "sku"},
        {"name": "a", "side": "item", "kind": "categorical", "buckets": 4},
        {"name": "a", "side": "item", "kind": "numeric", "buckets": 1},
        {"name": "a", "side": "query", "kind": "categorical", "maskable": True},
        {"name": "a", "side": "item", "kind": "categorical", "weights_column": "w"},
        {"name": "2a", "side": "item", "kind": "categorical"},
    ],
)
def test_impossible_features_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"feature|name"):
        Feature(**wrong)


def test_the_feature_is_named_in_the_message() -> None:
    message = refused(document(features=[USER, ITEM | {"dim": 0}]))
    assert "features.sku.dim" in message


def test_item_features_need_an_item_table() -> None:
    message = refused(
        document(features=[USER, ITEM, {"name": "color", "side": "item", "kind": "categorical"}])
    )
    assert "color" in message and "data.items" in message


def test_overrides_are_yaml_values(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump(document()))
    config = load_config(
        path,
        ServingSections,
        ["loss.temperature=0.2", "evaluate.ks=[5, 100]", "ssl.enabled=true"][:2],
    )
    assert config.loss.temperature == 0.2
    assert config.evaluate.ks == [5, 100]
    assert (
        load_config(path, ServingSections, ["evaluate.ks=[5, 20]"]).train.monitor == "recall@20/new"
    )
    with pytest.raises(LongtailError, match=r"expected section\.key=value"):
        load_config(path, ServingSections, ["loss"])
    with pytest.raises(LongtailError, match=r"loss\.heat: unknown key"):
        load_config(path, ServingSections, ["loss.heat=1"])


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="cannot read"):
        load_config(tmp_path / "none.yaml", DataSections)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,")
    with pytest.raises(LongtailError, match="not valid YAML"):
        load_config(broken, DataSections)
    broken.write_text("- 1")
    with pytest.raises(LongtailError, match="received list"):
        load_config(broken, DataSections)


@pytest.mark.parametrize("name", ["complete_journey", "movielens_1m"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    load_config(Path(__file__).parents[2] / "configs" / f"{name}.yaml", ServingSections)
