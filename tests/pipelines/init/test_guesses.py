"""The parts of `longtail init` by themselves: forms of files, times, ratings, kinds of columns, names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.init.build import name_of
from pipelines.init.document import render
from pipelines.init.features import Shape, shape_of
from pipelines.init.form import find_form
from pipelines.init.guess import Guesses
from pipelines.init.names import ITEMS, USERS, feature_name, score, words
from pipelines.init.profile import Profile
from pipelines.init.rewards import event_worth, min_reward
from pipelines.init.times import reading_of
from preprocessing.base.errors import LongtailError
from tests.pipelines.init.logs import START, events, write_lines

_PLACES = ("king", "house", "road", "ice", "rome", "sea")


def column(values: list[object], name: str = "x") -> Profile:
    return Profile(name, pa.array(values))


def test_two_characters_between_values_and_no_header_line(tmp_path: Path) -> None:
    rows = [[n % 7 + 1, n % 11 + 1, n % 5 + 1, 978_300_760 + n] for n in range(50)]
    form = find_form(str(write_lines(tmp_path / "ratings.dat", rows, "::")))
    assert form.keys == {
        "delimiter": "::",
        "columns": ["column_1", "column_2", "column_3", "column_4"],
    }
    guesses = Guesses()
    guesses.add("data.interactions", form.section, "; ".join(form.reasons.values()))
    assert "delimiter: '::', columns: [column_1, column_2, column_3, column_4]" in render(
        guesses, []
    )


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text('{"reviewerID": "A", "asin": "1"}\n{"reviewerID": "B", "asin": "2"}\n')
    assert find_form(str(path)).keys == {"format": "jsonl"}


def test_letters_of_latin_1(tmp_path: Path) -> None:
    rows = [["user_id", "song"], *[[n % 5, f"Caf\u00e9 {n}"] for n in range(20)]]
    path = write_lines(tmp_path / "log.csv", rows, encoding="latin-1")
    assert find_form(str(path)).keys == {"encoding": "latin-1"}


def test_keys_of_text_are_no_header(tmp_path: Path) -> None:
    rows = [[e["user"], e["item"], int(e["at"].timestamp())] for e in events(50)]
    assert "columns" in find_form(str(write_lines(tmp_path / "a.csv", rows))).keys
    plain = [["", "user", "item", "ts"], *[[n, *row] for n, row in enumerate(rows)]]
    assert find_form(str(write_lines(tmp_path / "b.csv", plain))).keys == {}


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(LongtailError, match="is empty"):
        find_form(str(tmp_path / "a.csv"))
    (tmp_path / "b.bin").write_bytes(b"\x00\x01\x02")
    with pytest.raises(LongtailError, match="is not text"):
        find_form(str(tmp_path / "b.bin"))
    (tmp_path / "c.txt").write_text("one\ntwo\n")
    with pytest.raises(LongtailError, match="separated by one of"):
        find_form(str(tmp_path / "c.txt"))


@pytest.mark.parametrize(("unit", "times"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_of_numbers(unit: str, times: int) -> None:
    found = reading_of(
        column([1_709_251_200 * times + n * times * 3600 for n in range(50)], "when")
    )
    assert found is not None
    assert (found.unit or "s", found.text_format, found.is_order) == (unit, None, False)


@pytest.mark.parametrize(
    ("text_format", "found"),
    [
        ("%Y-%m-%dT%H:%M:%S", None),
        ("%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M"),
        ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M"),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%m %d, %Y", "%m %d, %Y"),
        ("%d/%b/%Y:%H:%M:%S +0000", "%d/%b/%Y:%H:%M:%S %z"),
    ],
)
def test_forms_of_text(text_format: str, found: str | None) -> None:
    texts: list[object] = [(START + timedelta(days=n)).strftime(text_format) for n in range(60)]
    reading = reading_of(column(texts))
    assert reading is not None
    assert reading.text_format == found


def test_a_day_that_may_be_a_month_is_told_by_the_order_of_the_log() -> None:
    days = [(1, 9), (1, 10), (1, 11), (1, 12), (2, 1), (2, 2), (3, 1), (3, 2)]
    texts: list[object] = [f"{month:02}/{day:02}/2024" for month, day in days]
    reading = reading_of(column(texts))
    assert reading is not None
    assert reading.text_format == "%m/%d/%Y"
    assert "fits the sample as well" in reading.reason


@pytest.mark.parametrize("values", [[1, 2, 3] * 9, ["red", "blue"] * 9, [0.5, 0.7] * 9])
def test_what_tells_no_time(values: list[object]) -> None:
    assert reading_of(column(values)) is None


def test_dates_as_numbers() -> None:
    found = reading_of(
        column([int((START + timedelta(days=n)).strftime("%Y%m%d")) for n in range(50)])
    )
    assert found is not None
    assert found.unit == "date"


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ([1, 2, 3, 4, 5], 4.0),
        ([0.5 * n for n in range(1, 11)], 3.5),
        (list(range(1, 11)), 7.0),
        ([0, 1], 1.0),
    ],
)
def test_the_least_rating_of_what_was_liked(values: list[float], least: float) -> None:
    assert min_reward(np.array(values, float))[0] == least


def test_kinds_of_events_are_worth_what_they_cost_the_user() -> None:
    assert (
        event_worth("view")
        < event_worth("click")
        < event_worth("addtocart")
        < event_worth("transaction")
    )


@pytest.mark.parametrize(
    ("values", "name", "kind"),
    [
        (["a", "b", "c", "d"] * 10, "colour", "categorical"),
        ([n % 9 for n in range(40)], "size", "categorical"),
        ([n * 7 % 1000 for n in range(400)], "brand_id", None),
        ([n * 1.5 for n in range(40)], "price", "numeric"),
        (["Drama|War", "Comedy", "Drama|Comedy", "War|Comedy"] * 8, "genres", "multi"),
        ([["a", "b"], ["b"], ["a", "c"], ["c"]] * 8, "tags", "multi"),
        ([f"the {w} of {v}" for w in _PLACES for v in _PLACES], "t", "text"),
        ([f"https://x/{n}" for n in range(40)], "image", None),
        (["same"] * 40, "source", None),
        ([None] * 39 + ["x"], "rare", None),
    ],
)  # fmt: skip
def test_kinds_of_columns(values: list[object], name: str, kind: str | None) -> None:
    shape = shape_of(column(values, name))
    assert (shape.keys["kind"] if isinstance(shape, Shape) else None) == kind, shape


def test_a_title_with_commas_is_one_value() -> None:
    titles: list[object] = [f"Part {n}, the {['old', 'new', 'red'][n % 3]} one" for n in range(30)]
    assert column(titles).separator is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("userId", ["user", "id"]),
        ("CustomerID", ["customer", "id"]),
        ("visitorid", ["visitor", "id"]),
        ("Item Code", ["item", "code"]),
        ("item_id:token", ["item", "id"]),
        ("uid", ["user", "id"]),
        ("products_no", ["product", "no"]),
    ],
)
def test_words_of_names(name: str, parts: list[str]) -> None:
    assert words(name) == parts


def test_how_well_a_name_says_a_role() -> None:
    assert score("user_id", USERS) == score("user", USERS) == 3
    assert score("movie_title", ITEMS) == 1
    assert score("amount", USERS) == 0


def test_names_of_features_and_runs() -> None:
    assert feature_name("Unit Price (EUR)") == "unit_price_eur"
    assert feature_name("1st:token") == "column_1st"
    assert name_of("shop/orders-2024.csv.gz") == "orders-2024"
    assert name_of("data/amazon-beauty/interactions.csv") == "amazon-beauty"
