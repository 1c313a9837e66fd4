"""Which files a path means, whatever characters it has, and what is said of those that cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import is_remote
from preprocessing.config import TableConfig
from preprocessing.sources.input_files import find_files, opened, state


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("log-*.csv", ["log-1.csv", "log-2.csv"]),  # without a folder
        ("./log-*.csv", ["./log-1.csv", "./log-2.csv"]),
        ("log-1.csv", ["log-1.csv"]),
        ("log-?.csv", ["log-1.csv", "log-2.csv"]),
        ("log-[2-9].csv", ["log-2.csv"]),
        ("*/log.csv", ["[x]/log.csv", "x/log.csv"]),
        ("[x]/log.csv", ["[x]/log.csv"]),  # the folder of that name comes before the pattern
        ("[x]/log*", ["[x]/log.csv", "[x]/log[1].csv"]),
        ("[x]/log[1].csv", ["[x]/log[1].csv"]),
        ("[xy]/log.csv", ["x/log.csv"]),
        ("a b%20:#é/*.csv", ["a b%20:#é/t.csv"]),
        ("deep/**/*.csv", ["deep/1/2/t.csv", "deep/1/t.csv", "deep/t.csv"]),
        (
            "under/**/*",
            ["under/tb.csv/part-0.csv"],
        ),  # once, not as the folder and as what lies in it
        ("under/**/*.csv", ["under/tb.csv/part-0.csv"]),
        ("part", ["part/part-0.csv", "part/part-1.csv"]),
        ("par*", ["part/part-0.csv", "part/part-1.csv"]),
        ("part/", ["part/part-0.csv", "part/part-1.csv"]),
        ("part/_hidden*", ["part/_hidden.csv"]),  # asked for by name
    ],
)
def test_what_a_path_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, found: list[str]
) -> None:
    touch(tmp_path, "log-1.csv", "log-2.csv", "log-.txt", "[x]/log.csv", "[x]/log[1].csv")
    touch(tmp_path, "x/log.csv", "x/log1.csv", "a b%20:#é/t.csv")
    touch(tmp_path, "deep/t.csv", "deep/1/t.csv", "deep/1/2/t.csv", "deep/.git/t.csv")
    touch(tmp_path, "part/part-1.csv", "part/part-0.csv", "part/_SUCCESS", "part/_hidden.csv")
    touch(tmp_path, "part/.part-0.csv.crc", "under/tb.csv/part-0.csv")
    monkeypatch.chdir(tmp_path)
    assert find_files(path) == found
    assert find_files(os.path.join(tmp_path, path)) == sorted(
        os.path.join(tmp_path, each.removeprefix("./"))
        if "./" not in path
        else f"{tmp_path}/{each}"
        for each in found
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.csv", "no file matches none.csv"),
        ("none-*.csv", "no file matches"),
        ("hive", "divided into folders .by 'day', a column that its files do not hold"),
        ("nested", "divided into folders .as inner"),
        ("bare", "a folder without files of data"),
        ("log.csv/part.csv", "no file matches"),
    ],
)
def test_what_means_nothing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    touch(tmp_path, "hive/day=2024-05-01/part-0.csv", "nested/inner/t.csv", "bare/_SUCCESS", "log.csv")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LongtailError, match=words):
        find_files(path)


def test_the_hint_for_a_divided_folder_is_a_path_that_works(tmp_path: Path) -> None:
    touch(tmp_path, "hive/day=1/part-0.csv", "hive/day=2/part-0.csv", "hive/_SUCCESS")
    assert len(find_files(f"{tmp_path}/hive/*/*")) == 2


def test_a_folder_needs_no_ending_and_a_file_does(tmp_path: Path) -> None:
    assert TableConfig(path=str(tmp_path)).resolved_format is None
    with pytest.raises(
        ValueError, match=r"cannot tell the format of .*expected an ending of \.csv, "
    ):
        TableConfig(path=str(tmp_path / "log"))


def test_an_input_that_cannot_be_opened_is_named_as_one(tmp_path: Path) -> None:
    touch(tmp_path, "log.csv")
    with (
        pytest.raises(LongtailError, match=r"cannot read .*log\.csv/x: Not a directory"),
        opened(str(tmp_path / "log.csv/x")),
    ):
        pass
    with (
        pytest.raises(LongtailError, match=r"cannot read .*: Is a directory"),
        opened(str(tmp_path)),
    ):
        pass
    with pytest.raises(LongtailError, match=r"cannot read .*gone: No such file"):
        state(str(tmp_path / "gone"))


def test_only_a_scheme_is_remote() -> None:
    assert is_remote("gs://bucket/x") and is_remote("s3a://b")
    assert not any(is_remote(path) for path in ("a:b/c.csv", "C:/x", "./gs:/x", "/gcs/b//x"))
