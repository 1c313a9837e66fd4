"""Text as people have it: MovieLens, RecBole, exports without a header; and what is broken in any of them."""

from __future__ import annotations

import bz2
import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.base.errors import LongtailError
from preprocessing.config import TableConfig
from preprocessing.sources import plain_fields
from preprocessing.sources.readers import plan, read_unit
from preprocessing.sources.row_outcomes import LOG, RowOutcomes


def rows_of(
    path: Path, read: str = "a b", batch_rows: int = 2, **table: Any
) -> tuple[list[tuple[Any, ...]], dict[int, str], int]:
    """Rows with their lines, what is broken by line, and how many rows there were."""
    outcomes, rows, names = RowOutcomes(LOG), [], read.split()
    for unit in plan(TableConfig(path=str(path), **table), names)[0]:
        for found in read_unit(unit, names, batch_rows, outcomes):
            assert found.lines is not None
            outcomes.rows += found.batch.num_rows
            values = found.batch.to_pydict().values()
            rows += list(zip(found.lines.tolist(), *values, strict=True))
    broken = {e["line"]: e["detail"] for e in outcomes.entries("rejected")}
    return rows, broken, outcomes.rows


def test_ratings_of_movielens(tmp_path: Path) -> None:
    """Several characters between fields, nothing quoted, no header; titles in Latin-1."""
    path = tmp_path / "ratings.dat"
    path.write_bytes(
        b"1::1193::5::978300760\n1::661::3::978302109\r\n1::2::3\n\n2::914:::5::978301968"
    )
    names = ["user", "item", "rating", "timestamp"]
    rows, broken, total = rows_of(path, "item rating", delimiter="::", columns=names)
    assert rows == [(1, "1193", "5"), (2, "661", "3"), (5, "914", ":5")]
    assert (broken, total) == ({3: "expected 4 fields, one a column, received 3"}, 4)
    path = tmp_path / "movies.dat.bz2"
    path.write_bytes(bz2.compress('1::"Amélie" (2001)::\n2::Été::Drama|War\n'.encode("latin-1")))
    names = ["item", "title", "genres"]
    rows, *_ = rows_of(path, "title genres", delimiter="::", columns=names, encoding="latin-1")
    assert rows == [(1, '"Amélie" (2001)', None), (2, "Été", "Drama|War")]


@pytest.mark.parametrize("ending", [".inter", ".item.gz", ".user"])
def test_atomic_files_of_recbole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ml{ending}"
    content = b'user_id:token\ttitle:token_seq\tx:y:float\tz:other\n1\t"Heat 2\t0.5\tq\n'
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert rows_of(path, "user_id title x:y z:other")[0] == [(2, "1", '"Heat 2', "0.5", "q")]
    with pytest.raises(LongtailError, match=r"expected column 'user', .*did you mean 'user_id'"):
        rows_of(path, "user")


@pytest.mark.parametrize("delimiter", [",", "||"])
def test_files_without_a_header_line(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff" + "1,x\n2,y,9\n3\n4,z\n".replace(",", delimiter), encoding="utf-8")
    rows, broken, total = rows_of(path, delimiter=delimiter, columns=["b", "a"])
    assert rows == [(1, "x", "1"), (4, "z", "4")]
    assert sorted(broken) == [2, 3] and total == 4
    with pytest.raises(LongtailError, match="expected column 'a', received b, c"):
        rows_of(path, delimiter=delimiter, columns=["b", "c"])


def test_names_in_line_1_beside_names_in_the_configuration_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    with pytest.raises(LongtailError, match=r"received these names: leave 'columns' out"):
        rows_of(tmp_path / "t.csv", columns=["a", "b"])


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("t.csv", {}),
    "breaks": ("t.csv", {"quoted_line_breaks": True}),
    "nameless": ("t.csv", {"columns": ["a", "b"]}),
    "long": ("t.dat", {"delimiter": "::"}),
    "tab": ("t.tab", {}),
    "recbole": ("t.inter", {}),
    "json": ("t.jsonl", {}),
    "utf-16": ("t.csv", {"encoding": "utf-16-le"}),
    "cp1252": ("t.csv", {"encoding": "cp1252"}),
}
GOOD = {"json": b'{"a": 1, "b": 2}\n', "long": b"a::b\n1::2\n", "tab": b"a\tb\n1\t2\n"}
GOOD["recbole"] = b"a:token\tb:float\n1\t2\n"
GARBAGE = {
    "empty": b"",
    "a mark alone": b"\xef\xbb\xbf",
    "blank lines": b"\n\r\n \n",
    "header": b"a,b\n",
    "NUL": b"\0" * 1_000,
    "binary": bytes(range(256)) * 40,
    "twice": b"a,a,b\n1,2,3\n",
    "ragged": b"a,b\n1\n1,2,3\n,\n",
    "no end": b"a,b\n1,2",
    "mac": b"a,b\r1,2\r",
    "deep": b"[" * 300_000,
    "long line": b"x" * (1 << 20),
    "quotes": b'"a","b\n1,"2\n',
    "odd": b"a\0,\0b\0\n",
    "numbers": b"1\n2\n[1]\nnull\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", [*GARBAGE, "appended"])
def test_whatever_a_file_holds_is_read_or_told_in_one_line(
    tmp_path: Path, form: str, what: str
) -> None:
    """Rows add up, and where a batch ends decides nothing."""
    name, table = FORMS[form]
    good = GOOD.get(form, b"a,b\n1,2\n")
    content = good + b"".join(GARBAGE.values()) if what == "appended" else GARBAGE[what]
    for ending, pack in (("", bytes), (".gz", gzip.compress)):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(pack(content))
        try:
            rows, broken, total = rows_of(path, batch_rows=1, **table)
        except LongtailError as error:
            with pytest.raises(LongtailError, match=re.escape(str(error))):
                rows_of(path, batch_rows=1_000, **table)
            told = str(error)
            assert "\n" not in told and str(tmp_path) in told
        else:
            assert total == len(rows) + len(broken)
            assert rows_of(path, batch_rows=1_000, **table) == (rows, broken, total)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("name", ["t.jsonl", "t.inter", "t.tab"])
def test_a_compressed_file_of_something_else_is_told(
    tmp_path: Path, name: str, ending: str
) -> None:
    (tmp_path / f"{name}{ending}").write_bytes(b'{"a": 1, "b": 2}\n')
    with pytest.raises(LongtailError, match="cut off or damaged"):
        rows_of(tmp_path / f"{name}{ending}")


PIECES = st.sampled_from(["x", '"', ":", "::", "::", "\n", "\n", "\r", "\r\n", "é", "\0"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(PIECES, max_size=40).map("".join))
def test_plain_fields_are_those_of_str_split(text: str) -> None:
    lines = text.encode().split(b"\n")
    found = plain_fields.cut(b"\n".join([*lines, b""]), b"::", 2, {"b": 1, "a": 0})
    expected = []
    for at, line in enumerate(lines):
        bare = line.removesuffix(b"\r")
        values = bare.split(b"::")
        is_whole = len(values) == 2 and b"\0" not in bare and b"\r" not in bare
        assert found.is_first[at] == bool(bare)
        assert found.is_whole[at] == is_whole == (bool(bare) and at not in found.broken)
        if is_whole:
            expected.append({"b": values[1] or None, "a": values[0] or None})
    assert found.batch is not None and found.batch.to_pylist() == expected
