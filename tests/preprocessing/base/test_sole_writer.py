"""Two processes at one place: the second is told so, and a killed one bars nobody."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from preprocessing.base.artifacts import whole_directory
from preprocessing.base.errors import LongtailError
from preprocessing.base.sole_writer import sole_writer

REFUSED = (
    r"expected to be alone in writing .*data, received .* another process.*: wait for that one"
)
_HOLD = """
import sys, time
from pathlib import Path
from preprocessing.base.artifacts import whole_directory
with whole_directory(Path(sys.argv[1])) as out:
    (out / "half").touch()
    print("writing", flush=True)
    time.sleep(600)
"""
_CONFIG: dict[str, Any] = {
    "name": "small",
    "data": {"columns": {"user": "user", "item": "item", "timestamp": "at"}},
    "features": [
        {"name": "who", "side": "query", "kind": "id", "column": "user"},
        {"name": "sku", "side": "item", "kind": "id", "column": "item"},
    ],
}


def writes(target: Path) -> subprocess.Popen[str]:
    """Another process, in the middle of writing a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_the_second_is_refused_and_takes_nothing_from_the_first(tmp_path: Path) -> None:
    target = tmp_path / "work" / "data"
    first = writes(target)
    try:
        with pytest.raises(LongtailError, match=REFUSED), whole_directory(target):
            pass
        assert len(list(target.parent.glob(".data.*.tmp/half"))) == 1
        with whole_directory(target.with_name("other")):  # the next place is free
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert sorted(p.suffix for p in target.parent.iterdir()) == ["", ".lock", ".tmp"]
    with whole_directory(target) as out:
        (out / "whole").touch()
    assert [p.name for p in target.iterdir()] == ["whole"]
    assert sorted(p.name for p in target.parent.iterdir()) == ["data", "other"]


@pytest.mark.slow
def test_a_second_preprocessing_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,at\nu,a,1\n")
    document = {**_CONFIG, "work_dir": str(tmp_path)}
    document["data"] = {**_CONFIG["data"], "interactions": {"path": str(tmp_path / "log.csv")}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(document))
    first = writes(tmp_path / "data")
    try:
        second = subprocess.run(
            [sys.executable, "-m", "preprocessing.run", str(tmp_path / "small.yaml")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 2
    assert "Traceback" not in second.stderr
    assert second.stderr.splitlines()[-1].startswith("error: expected to be alone in writing")


def test_of_many_at_once_one_at_a_time(tmp_path: Path) -> None:
    """Also while the one before is removing its lock."""
    turns = """
import os, sys
from pathlib import Path
from preprocessing.base.errors import LongtailError
from preprocessing.base.sole_writer import sole_writer
target, done = Path(sys.argv[1]), 0
while done < 200:
    try:
        with sole_writer(target):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))
            os.unlink(target)
            done += 1
    except LongtailError:
        pass
"""
    command = [sys.executable, "-c", turns, str(tmp_path / "data")]
    started = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_mount_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with sole_writer(tmp_path / "data"):
        pass
    assert not list(tmp_path.iterdir())
