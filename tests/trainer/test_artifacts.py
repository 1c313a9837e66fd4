"""Nothing that does not hold our manifest is replaced or removed, and what is written is whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocessing.base.artifacts import (
    discard_leftovers,
    is_current,
    read_manifest,
    whole_directory,
    write_manifest,
    write_new,
)
from preprocessing.base.errors import LongtailError, LongtailFailure
from trainer.loop.run_state import claim


def make(target: Path, name: str = "content") -> None:
    with whole_directory(target) as out:
        (out / name).touch()
        write_manifest(out, "f" * 16, {})


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_artifact_replaces_an_earlier_one_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data", "first")
    make(tmp_path / "data", "second")
    assert names(tmp_path / "data") == ["manifest.json", "second"]
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("manifest", [None, "{}", '{"name": "app", "icons": []}', "[1]", "no json"])
def test_a_folder_of_somebody_else_is_refused_and_untouched(
    tmp_path: Path, manifest: str | None
) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (target / "manifest.json").write_text(manifest)
    with pytest.raises(
        LongtailError, match=r"data: expected an empty folder .*nothing was touched"
    ):
        make(target)
    assert (target / "thesis.txt").read_text() == "years of work"
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("manifest", [b"[]", b"1", b"null", b"no json", b"\xff\xfe{}"])
def test_a_manifest_that_is_none_makes_nothing_current(tmp_path: Path, manifest: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest)
    assert read_manifest(tmp_path) is None
    assert not is_current(tmp_path, "f" * 16)


def test_what_comes_while_an_artifact_is_made_is_refused_too(tmp_path: Path) -> None:
    target = tmp_path / "data"

    def meanwhile() -> None:
        with whole_directory(target):
            target.mkdir()
            (target / "thesis.txt").touch()

    with pytest.raises(LongtailError, match="nothing was touched"):
        meanwhile()
    assert names(tmp_path) == ["data"] and names(target) == ["thesis.txt"]


@pytest.mark.parametrize("name", ["logs", "checkpoints", "run", "history.json"])
def test_a_training_claims_no_folder_of_somebody_else(tmp_path: Path, name: str) -> None:
    """Names like these are anybody's; a marker is one only if it holds a fingerprint."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(LongtailError, match=f"received one with {name} of somebody else"):
        claim(tmp_path, "f" * 16)
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"


def test_a_training_takes_over_its_own_folder_and_leaves_other_names(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    claim(tmp_path, "a" * 16)
    (tmp_path / "checkpoints").mkdir()
    claim(tmp_path, "a" * 16)
    assert names(tmp_path) == ["checkpoints", "run", "thesis.txt"]
    claim(tmp_path, "b" * 16)
    assert names(tmp_path) == ["run", "thesis.txt"]


def test_a_place_that_tensorflow_takes_for_a_pattern_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("d[1]", "d*", "d?"):
        with pytest.raises(LongtailError, match="take for a pattern"):
            make(tmp_path / name / "data")
    make(tmp_path / "a b:c %20 #é" / "data")
    assert names(tmp_path) == ["a b:c %20 #é"]
    (tmp_path / "[x]").mkdir()
    monkeypatch.chdir(tmp_path / "[x]")
    with pytest.raises(LongtailError, match="take for a pattern"):
        make(Path("data"))


def test_a_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(LongtailError, match="received a file"):
        make(tmp_path / "data")
    assert (tmp_path / "data").read_text() == "mine"


def test_leftovers_go_and_what_only_looks_alike_stays(tmp_path: Path) -> None:
    for name in (".d[1].01234567.tmp", ".d[1].mine.tmp", ".d1.01234567.tmp", ".d[1].0123456.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    discard_leftovers(tmp_path / "d[1]")
    assert names(tmp_path) == [".d1.01234567.tmp", ".d[1].0123456.tmp", ".d[1].mine.tmp"]
    discard_leftovers(tmp_path / "none" / "d")


def test_a_new_file_takes_no_other_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.parquet"
    write_new(path, b"first")
    with pytest.raises(LongtailFailure, match=r"cannot write .*File exists; nothing was replaced"):
        write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(path.parent) == ["t.parquet"]


def test_without_links_a_new_file_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_new(tmp_path / "t", b"first")
    with pytest.raises(LongtailFailure):
        write_new(tmp_path / "t", b"second")
    assert (tmp_path / "t").read_bytes() == b"first" and names(tmp_path) == ["t"]


def test_a_killed_writer_leaves_the_earlier_artifact_whole(tmp_path: Path) -> None:
    make(tmp_path / "data", "first")
    script = (
        "import sys, time; from pathlib import Path; from preprocessing.base.artifacts import whole_directory\n"
        "with whole_directory(Path(sys.argv[1])) as out:\n"
        "    (out / 'half').touch(); print('in', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path / "data") == ["first", "manifest.json"]
    assert len(names(tmp_path)) == 3  # with the lock and the temporary sibling, until the next call
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the lock opens when the system has buried the process
        try:
            make(tmp_path / "data", "second")
            break
        except LongtailError:
            time.sleep(0.1)
    assert names(tmp_path) == ["data"]
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["fingerprint"] == "f" * 16
