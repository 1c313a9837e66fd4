"""What becomes of the rows of the log and of the tables: kept, rejected or noted, each by itself."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from preprocessing.config import DataSections
from preprocessing.features import Side
from preprocessing.log import ingest
from preprocessing.sources import key_tables as catalogue
from preprocessing.sources.key_rows import KeyRows
from preprocessing.sources.row_outcomes import RowOutcomes, Rows

DAY = 1_704_412_800
"""2024-01-05."""
FEATURES = [
    {"name": "who", "side": "query", "kind": "id", "column": "user"},
    {"name": "age", "side": "query", "kind": "numeric"},
    {"name": "channel", "side": "context", "kind": "categorical"},
    {"name": "basket", "side": "context", "kind": "multi", "weights_column": "amounts"},
    {"name": "wait", "side": "context", "kind": "numeric"},
    {"name": "sku", "side": "item", "kind": "id", "column": "item"},
    {"name": "price", "side": "item", "kind": "numeric"},
]


def make_config(**data: Any) -> DataSections:
    columns = {
        "user": "user",
        "item": "item",
        "timestamp": "at",
        "reward": "stars",
        "split": "part",
    }
    document = {
        "name": "ingest",
        "work_dir": "runs/ingest",
        "data": {
            "interactions": {"path": "log.parquet"},
            "items": {"path": "items.parquet"},
            "users": {"path": "users.parquet"},
            "columns": columns,
            **data,
        },
        "features": FEATURES,
        "preprocess": {"split": {"method": "column"}},
    }
    return parse_config(document, DataSections, "file.yaml")


BASE: dict[str, Any] = {
    "user": "u", "item": "1", "at": DAY, "stars": 1.0, "part": "train", "channel": "web",
    "basket": "a|b", "amounts": "1|2", "wait": 0.5,
}  # fmt: skip


def ingested(
    columns: dict[str, pa.Array], config: DataSections | None = None
) -> tuple[dict[str, Any], RowOutcomes]:
    rows = len(next(iter(columns.values())))
    given = {name: columns.get(name, pa.array([value] * rows)) for name, value in BASE.items()}
    batch = pa.RecordBatch.from_arrays(list(given.values()), list(given))
    outcomes = RowOutcomes("log")
    items = KeyRows(pa.array(["1", "2024-01-05", "true"], pa.large_string()))
    done = ingest.canonical(
        Rows.following(batch, "log.parquet"), config or make_config(), items, outcomes
    )
    outcomes.check()
    return done.to_pydict(), outcomes


@pytest.mark.parametrize(
    ("column", "values", "reasons"),
    [
        ("user", pa.array([7.0, float("nan"), None, 7.5]),
         {"missing user": 2, "user is not a whole number": 1}),
        ("user", pa.array([b"u", b"\xff", b""]), {"user is not UTF-8": 1, "missing user": 1}),
        ("item", pa.array(["1", "1\n", " ", "2", "\0"]),
         {"item holds a line break or NUL": 2, "missing item": 1, "unknown item": 1}),
        ("item", pa.array([Decimal(1), None, Decimal(2)], pa.decimal128(38, 0)),
         {"missing item": 1, "unknown item": 1}),
        ("item", pa.array([1, 3, None]).dictionary_encode(), {"missing item": 1, "unknown item": 1}),
        ("at", pa.array(["2024-01-05", "05/01/2024", "now", None]), {"unparsable time": 3}),
        ("stars", pa.array(["1", "1e39", "x", None, "nan"]), {"reward is not a number": 4}),
        ("stars", pa.array([1.0, float("inf"), 1e300]), {"reward is not a number": 2}),
        ("part", pa.array([" Train", "val", "?", None]), {"unknown split": 2}),
    ],
)  # fmt: skip
def test_each_row_is_rejected_for_its_own_reason(
    column: str, values: pa.Array, reasons: dict[str, int]
) -> None:
    done, outcomes = ingested({column: values})
    assert outcomes.rejected == reasons
    assert len(done["user"]) == len(values) - sum(reasons.values())


def test_a_reward_below_0_is_no_weight() -> None:
    stars = pa.array([2.0, -3.0, 0.0, -1.0])
    assert ingested({"stars": stars})[1].rejected == {}
    done, outcomes = ingested({"stars": stars}, make_config(reward_weights=True))
    assert outcomes.rejected == {"negative reward, where data.reward_weights is true": 2}
    assert done["reward"] == [2.0, 0.0]
    for others in ({"min_reward": 1}, {"refused": {"at_most": -1}}):
        # Such a row is no positive, so that its reward weighs nothing.
        assert (
            ingested({"stars": stars}, make_config(reward_weights=True, **others))[1].rejected == {}
        )


def test_values_of_features_are_noted_and_stay() -> None:
    done, outcomes = ingested(
        {
            "wait": pa.array(["0.5", "1e39", "?", None]),
            "amounts": pa.array(["1|2", "1", "1|-1", "|"]),
        }
    )
    assert done["wait"] == [[0.5], [], [], []]
    assert done["basket_weights"] == [[1, 2], [1, 1], [1, 0], [1, 1]]
    assert outcomes.rejected == {}
    assert {reason.partition(",")[0]: n for reason, n in outcomes.noted.items()} == {
        "wait: not a number of a magnitude below 2^63": 2,
        "basket: weights that do not fit the values": 2,
        "basket: a weight below 0": 1,
    }


def test_the_tables_have_the_same_rules() -> None:
    config = make_config(item_title=["label"])
    features = config.feature_list
    items = pa.RecordBatch.from_pydict(
        {"item": ["a", None, "b\r"], "price": ["1", "2", "3"], "label": ["a\nb ", "x", "y"]}
    )
    outcomes = RowOutcomes("items")
    rows = Rows.following(items, "items.parquet")
    done = catalogue.canonical(rows, config.data, Side.ITEM, features, outcomes)
    assert done.column(0).to_pylist() == ["a"] and done.column(1).to_pylist() == ["a b"]
    assert outcomes.rejected == {"missing item": 1, "item holds a line break or NUL": 1}
    users = pa.RecordBatch.from_pydict({"user": [1.0, float("nan"), 2.5], "age": ["5", "6", "old"]})
    outcomes = RowOutcomes("users")
    rows = Rows.following(users, "users.parquet")
    done = catalogue.canonical(rows, config.data, Side.QUERY, features, outcomes)
    assert done.column(0).to_pylist() == ["1"]
    assert outcomes.rejected == {"missing user": 1, "user is not a whole number": 1}


TYPES: list[pa.Array] = [
    pa.nulls(2),
    pa.array([True, None]),
    *(pa.array([1, None], kind) for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float32())),
    pa.array([1.0, float("nan")]),
    pa.array([np.float16(1), None], pa.float16()),
    pa.array([Decimal(1), None], pa.decimal128(38, 0)),
    pa.array([Decimal(1), None], pa.decimal256(76, 9)),
    pa.array(["1", " "]),
    pa.array(["1", None], pa.large_string()),
    pa.array([b"1", b"\xff"]),
    pa.array([b"1", None], pa.large_binary()),
    pa.array([b"1", None], pa.binary(1)),
    pa.array([datetime.date(2024, 1, 5), None]),
    pa.array([datetime.date(2024, 1, 5), None], pa.date64()),
    *(pa.array([DAY, None], pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns")
      for zone in (None, "Asia/Tokyo")),
    *(pa.array([1, None], kind) for kind in (pa.time32("s"), pa.time64("ns"), pa.duration("us"))),
    pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    pa.array([{"a": 1}, None]),
    pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
]  # fmt: skip


def _variants(column: pa.Array) -> list[pa.Array]:
    """The column, and as a dictionary and in lists of each kind."""
    found = [column]
    places = pa.array([0, 1], pa.int8())
    if not pa.types.is_nested(column.type):
        found.append(pa.DictionaryArray.from_arrays(places, column))
    found.append(pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), column))
    found.append(pa.LargeListArray.from_arrays(pa.array([0, 2, 2], pa.int64()), column))
    found.append(pa.FixedSizeListArray.from_arrays(column, 1))
    found.append(pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), found[-1]))
    return found


def attempt(role: str, column: pa.Array) -> tuple[dict[str, Any], RowOutcomes, str]:
    """What a column becomes in a role, or the error of its type."""
    try:
        return (*ingested({role: column}), "")
    except LongtailError as error:
        return {}, RowOutcomes("log"), str(error)


@pytest.mark.parametrize("column", TYPES, ids=lambda column: str(column.type))
def test_every_type_is_read_or_refused_in_every_role(column: pa.Array) -> None:
    """Never another error; roles are the columns of the log, with features of each kind among them."""
    for variant in _variants(column):
        for role in BASE:
            done, outcomes, error = attempt(role, variant)
            if error:
                assert f"log.parquet: column '{role}' is of type " in error
            else:
                assert len(done["user"]) + sum(outcomes.rejected.values()) == 2


EVENTS: dict[str, Any] = {
    "columns": {"user": "user", "item": "item", "timestamp": "at", "event": "channel"},
    "events": {"view": 0.25, "cart": 0, "purchase": 1},
}


def test_kinds_of_events_are_rewards_and_others_are_set_aside_by_name() -> None:
    """A search has no item and no time, and is no error; a row without a kind is one."""
    config = make_config_of_events()
    channel = pa.array(["view", " purchase ", "cart", "search", None, "View", "search"])
    columns = {
        "channel": channel,
        "item": pa.array(["1", "1", "1", None, "1", "1", "1"]),
        "at": pa.array([DAY, DAY, DAY, None, DAY, DAY, DAY]),
    }
    done, outcomes = ingested(columns, config)
    assert done["reward"] == [0.25, 1.0]
    assert outcomes.set_aside == {
        "event 'search', which data.events does not list": 2,
        "event 'View', which data.events does not list": 1,
        "event 'cart' of weight 0": 1,
    }
    assert outcomes.rejected == {"missing event": 1}
    assert outcomes.entries("rejected")[0]["row"] == 5
    assert outcomes.rows == 7


def make_config_of_events(**data: Any) -> DataSections:
    document = make_config().model_dump(mode="json")
    document["data"] |= {**EVENTS, "reward_weights": True, **data}
    document["preprocess"]["split"] = {"method": "global_time"}
    return parse_config(document, DataSections, "file.yaml")


def test_kinds_of_events_may_be_numbers_and_refusals() -> None:
    config = make_config_of_events(
        events={1: 1.0, 2: 0, 9: -1}, refused={"at_most": -1}, reward_weights=True
    )
    done, outcomes = ingested({"channel": pa.array([1, 2, 9, 3])}, config)
    assert (done["reward"], done["refused"]) == ([1.0, -1.0], [False, True])
    assert sum(outcomes.set_aside.values()) == 2


def test_another_column_may_tell_refusals_of_events() -> None:
    config = make_config_of_events(refused={"column": "wait", "at_most": 0})
    columns = {"channel": pa.array(["view", "cart", "view"]), "wait": pa.array([1.0, 0.0, 0.0])}
    assert ingested(columns, config)[0]["refused"] == [False, True, True]


def test_a_column_of_many_values_is_none_of_kinds() -> None:
    names = pa.array([f"id-{at}" for at in range(1_001)])
    with pytest.raises(
        LongtailError, match=r"'channel' of data.columns.event holds more than 1,000"
    ):
        ingested({"channel": names}, make_config_of_events())


def test_weights_of_events_weigh_where_nothing_else_is_said() -> None:
    document = make_config().model_dump(mode="json")
    document["preprocess"]["split"] = {"method": "global_time"}
    del document["data"]["reward_weights"]
    document["data"] |= EVENTS
    assert parse_config(document, DataSections, "f").data.reward_weights
    document["data"]["reward_weights"] = False
    assert not parse_config(document, DataSections, "f").data.reward_weights


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"events": None}, "columns.event names column 'channel', which only data.events reads"),
        ({"columns": {**EVENTS["columns"], "event": None}}, "the column that columns.event names"),
        ({"columns": {**EVENTS["columns"], "reward": "stars"}}, "received both: leave one"),
        ({"min_reward": 0.5}, "min_reward does not go with events"),
        ({"events": {"view": 0}}, "at least one kind with a weight above 0"),
        ({"events": {"view": 1, "hide": -1}}, r"weights of at least 0, received less for hide"),
        ({"refused": {"at_most": -1}}, "holds for no weight of events"),
        ({"refused": {"at_most": 1}}, "at least one kind with a weight above 0 that is no refusal"),
        ({"refused": {"column": "channel", "at_most": 1}}, "expected a column of numbers"),
        ({"events": {"a": 1, " a": 2}}, "a name for each kind of event, no two the same"),
        ({"events": {"a": "much"}}, "number"),
        ({"events": {}}, "at least 1"),
    ],
)
def test_what_does_not_go_with_events_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(LongtailError, match=words):
        make_config_of_events(**{"reward_weights": False, **data})
