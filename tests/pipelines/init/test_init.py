"""`longtail init` from files to a configuration that RunConfig accepts, in each form that the readers know."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines import config as configuration
from pipelines.cli import main
from preprocessing.features import Kind
from tests.pipelines.init.logs import events, write_items, write_lines, write_log


def written(tmp_path: Path, *options: str) -> dict[str, Any]:
    """The document that the command writes; it is what RunConfig accepts."""
    out = tmp_path / "made.yaml"
    assert main(["init", *options, "--out", str(out)]) == 0
    configuration.load(out)
    document: dict[str, Any] = yaml.safe_load(out.read_text())
    return document


def feature(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["features"] if each["name"] == name)


def test_a_log_and_a_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "ratings.csv")
    items = write_items(tmp_path / "films.csv")
    document = written(tmp_path, "--interactions", str(log), "--items", str(items))
    data = document["data"]
    assert data["columns"] == {
        "user": "user_id",
        "item": "item_id",
        "timestamp": "timestamp",
        "reward": "rating",
    }
    assert data["items"] == {"path": str(items), "delimiter": ";"}
    assert (data["min_reward"], data["item_title"]) == (4.0, ["title"])
    assert "timestamp_unit" not in data  # seconds are the default
    kinds = {each["name"]: each["kind"] for each in document["features"] if each["side"] == "item"}
    assert kinds == {
        "item_id": "id",
        "item_title": "text",  # "title" is a field of the examples
        "genres": "multi",
        "brand": "categorical",
        "price": "numeric",
    }
    assert document["preprocess"]["split"]["method"] in ("global_time", "leave_one_out")
    text = (tmp_path / "made.yaml").read_text()
    for left_out in (
        "items, source: 100% of its values are the same",
        "items, image: nearly every row",
        "items, description: long free text",
    ):
        assert left_out in text
    said = capsys.readouterr().out.replace("\n", "")
    assert "longtail run" in said
    assert "data.columns.user: user_id  the name says it" in said


def test_parquet_with_times_lists_and_another_key(tmp_path: Path) -> None:
    rows = [
        {"customerId": e["user"], "sku": e["item"], "createdAt": e["at"], "amount": 2.5}
        for e in events()
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "orders.parquet")
    table = {
        "article": [f"i{n:03}" for n in range(60)],
        "tags": [["a", "b"] if n % 2 else ["c"] for n in range(60)],
    }
    pq.write_table(pa.table(table), tmp_path / "articles.parquet")
    document = written(
        tmp_path,
        "--interactions",
        str(tmp_path / "orders.parquet"),
        "--items",
        str(tmp_path / "articles.parquet"),
    )
    columns = {"user": "customerId", "item": "sku", "timestamp": "createdAt"}
    assert document["data"]["columns"] == columns
    assert document["data"]["item_key"] == "article"
    tags = feature(document, "tags")
    assert (tags["kind"], tags["max_length"]) == ("multi", 2)
    assert "separator" not in tags


@pytest.mark.parametrize(
    ("ending", "separator", "names"),
    [
        ("csv", ",", ("visitorid", "itemid", "score", "ts")),
        ("tsv", "\t", ("CustomerID", "StockCode", "stars", "EventTime")),
        ("dat", "|", ("uid", "iid", "rating", "unixReviewTime")),
        ("inter", "\t", ("user_id:token", "item_id:token", "rating:float", "timestamp:float")),
    ],
)
def test_spellings_and_separators(
    tmp_path: Path, ending: str, separator: str, names: tuple[str, ...]
) -> None:
    log = write_log(tmp_path / f"log.{ending}", names, separator)
    document = written(tmp_path, "--interactions", str(log))
    roles = ("user", "item", "reward", "timestamp")
    columns = document["data"]["columns"]
    assert [columns[role] for role in roles] == [name.split(":")[0] for name in names]
    known = {"csv": {}, "tsv": {}, "inter": {}, "dat": {"delimiter": separator}}[ending]
    assert document["data"]["interactions"] == {"path": str(log), **known}


def test_values_between_two_colons_without_a_header_line(tmp_path: Path) -> None:
    rows = [[e["user"][1:], e["item"][1:], e["rating"], int(e["at"].timestamp())] for e in events()]
    log = write_lines(tmp_path / "ratings.dat", rows, "::")
    document = written(tmp_path, "--interactions", str(log))
    assert document["data"]["interactions"]["delimiter"] == "::"
    assert document["data"]["columns"] == {
        "user": "column_1",
        "item": "column_2",
        "timestamp": "column_4",
        "reward": "column_3",
    }


def test_lines_of_json_and_letters_of_latin_1(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"reviewerID": e["user"], "asin": e["item"], "unixReviewTime": int(e["at"].timestamp())}
        )
        for e in events()
    ]
    (tmp_path / "reviews.jsonl").write_text("\n".join(lines))
    items = [
        ["asin", "brand"],
        *[[f"i{n:03}", ["Caf\u00e9", "Tea", "Bar"][n % 3]] for n in range(60)],
    ]
    table = write_lines(tmp_path / "meta.csv", items, encoding="latin-1")
    document = written(
        tmp_path, "--interactions", str(tmp_path / "reviews.jsonl"), "--items", str(table)
    )
    assert document["data"]["columns"]["user"] == "reviewerID"
    assert document["data"]["items"] == {"path": str(table), "encoding": "latin-1"}
    assert feature(document, "brand")["kind"] == "categorical"


def test_a_compressed_log_that_counts_events(tmp_path: Path) -> None:
    count: dict[str, int] = {}
    lines = ["user_id,item_id,position"]
    for event in events():
        count[event["user"]] = count.get(event["user"], -1) + 1
        lines.append(f"{event['user']},{event['item']},{count[event['user']]}")
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    document = written(tmp_path, "--interactions", str(tmp_path / "log.csv.gz"))
    assert document["data"]["any_time_range"] is True
    assert document["preprocess"]["split"] == {"method": "leave_one_out"}


def test_a_table_of_users_and_columns_of_codes(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv")
    people = [[f"u{n:03}", [20, 35, 50][n % 3], "fm"[n % 2], 10_000 + 7 * n] for n in range(40)]
    users = write_lines(tmp_path / "users.csv", [["user_id", "age", "gender", "zip_code"], *people])
    document = written(tmp_path, "--interactions", str(log), "--users", str(users))
    assert feature(document, "age")["kind"] == Kind.CATEGORICAL.value
    assert feature(document, "gender")["dim"] == 4
    assert all(each["name"] != "zip_code" for each in document["features"])


def test_rows_without_a_user_raise_the_limit_of_rejected_rows(tmp_path: Path) -> None:
    rows = [
        [e["user"] if n % 4 else "", e["item"], e["at"].isoformat()] for n, e in enumerate(events())
    ]
    log = write_lines(tmp_path / "log.csv", [["CustomerID", "StockCode", "InvoiceDate"], *rows])
    document = written(tmp_path, "--interactions", str(log))
    assert document["preprocess"]["max_rejected_fraction"] == pytest.approx(0.31)


def refused(capfd: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["init", *options]) == 2
    return capfd.readouterr().err


def test_two_candidates_are_named_with_the_option_that_settles_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [[e["user"], e["user"][::-1], e["item"], int(e["at"].timestamp())] for e in events()]
    log = write_lines(tmp_path / "log.csv", [["buyer_id", "customer_id", "item_id", "ts"], *rows])
    out = str(tmp_path / "x.yaml")
    said = refused(capfd, "--interactions", str(log), "--out", out)
    assert "buyer_id and customer_id may both be the user" in said
    assert "--user COLUMN" in said
    document = written(tmp_path, "--interactions", str(log), "--user", "buyer_id")
    assert document["data"]["columns"]["user"] == "buyer_id"


def test_a_log_without_times_and_a_column_that_is_not_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write_lines(
        tmp_path / "log.csv", [["user", "item"], *[[e["user"], e["item"]] for e in events()]]
    )
    out = str(tmp_path / "x.yaml")
    assert "--timestamp COLUMN" in refused(capfd, "--interactions", str(log), "--out", out)
    said = refused(capfd, "--interactions", str(log), "--timestamp", "itme", "--out", out)
    assert "did you mean 'item'" in said
    assert not (tmp_path / "x.yaml").exists()


def test_an_amount_weighs_and_is_no_rating(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.csv", ("user_id", "item_id", "quantity", "timestamp"))
    assert "reward" not in written(tmp_path, "--interactions", str(log))["data"]["columns"]
    (tmp_path / "made.yaml").unlink()
    document = written(tmp_path, "--interactions", str(log), "--reward", "quantity")
    assert document["data"]["reward_weights"] is True
    assert "min_reward" not in document["data"]
    out = str(tmp_path / "x.yaml")
    said = refused(
        capfd,
        "--interactions",
        str(log),
        "--user",
        "user_id",
        "--item",
        "quantity",
        "--reward",
        "item_id",
        "--out",
        out,
    )
    assert "expected numbers of more than one value in 'item_id'" in said


def test_the_kinds_of_a_log_of_events_are_weighed(tmp_path: Path) -> None:
    kinds = ["view", "view", "addtocart", "transaction"]
    rows = [
        [e["user"], kinds[n % 4], e["item"], int(e["at"].timestamp() * 1000)]
        for n, e in enumerate(events())
    ]
    names = ["visitorid", "event", "itemid", "timestamp"]
    log = write_lines(tmp_path / "log.csv", [names, *rows])
    data = written(tmp_path, "--interactions", str(log))["data"]
    assert data["columns"] == {
        "user": "visitorid",
        "item": "itemid",
        "timestamp": "timestamp",
        "event": "event",
    }
    assert list(data["events"]) == ["view", "addtocart", "transaction"]  # the strongest last
    assert list(data["events"].values()) == sorted(data["events"].values())
    assert data["events"]["transaction"] == 1 and data["events"]["view"] < 0.5
    assert data["timestamp_unit"] == "ms"
    text = (tmp_path / "made.yaml").read_text()
    assert "what an event of each kind is worth beside a purchase (1)" in text


def test_nothing_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.csv")
    mine = tmp_path / "mine.yaml"
    mine.write_text("my own")
    assert "is not replaced" in refused(capfd, "--interactions", str(log), "--out", str(mine))
    assert mine.read_text() == "my own"


def test_questions_have_the_guess_as_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.csv")
    asked = []

    def answer(question: str, default: str | None, err: bool) -> str:
        asked.append(default)
        return "" if "rating" in question else str(default)

    monkeypatch.setattr("typer.prompt", answer)
    document = written(tmp_path, "--interactions", str(log), "--interactive")
    assert asked == ["user_id", "item_id", "timestamp", "rating"]
    assert "reward" not in document["data"]["columns"]


def test_the_reasons_stand_in_the_file(tmp_path: Path) -> None:
    written(tmp_path, "--interactions", str(write_log(tmp_path / "log.csv")))
    text = (tmp_path / "made.yaml").read_text()
    assert "# the name says a rating, and its 5 values lie from 1 to 5" in text
    assert "seconds since 1970, from 2024-03-01" in text
    assert json.dumps(yaml.safe_load(text))  # plain values only
