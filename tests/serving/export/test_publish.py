"""Several processes that publish, label and withdraw in one folder; some of them die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.export import publish as publishing
from serving.export.folder import read_description, read_labels, version_paths, withdrawn_versions
from serving.export.labels import MODELS_CONFIG, ServedVersions, models_config, move_label
from serving.export.publish import exclusive, publish, staging

ROOT = Path(__file__).parents[3]
COMMON = """
    import sys, time
    from pathlib import Path
    from serving.export.folder import read_labels, version_paths
    from serving.export.labels import move_label, withdraw
    from serving.export.publish import exclusive, publish, staging
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    def version(content):
        with staging(folder) as out:
            (out / "assets.extra").mkdir()
            (out / "content").write_text(content)
            return publish(out, folder)
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(script: str, folder: Path, number: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything and waits for a line."""
    text = textwrap.dedent(COMMON) + textwrap.dedent(script)
    command = [sys.executable, "-c", text, str(folder), str(number)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def go(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("go\n")
    running.stdin.flush()


def race(folder: Path, *scripts: str) -> None:
    """Runs the scripts at the same time; each has to end well."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(process(script, folder, number))
            for number, script in enumerate(scripts)
        ]
        for each in running:
            go(each)
        assert [each.wait(timeout=120) for each in running] == [0] * len(running)


def add(folder: Path, content: str = "") -> Path:
    with staging(folder) as out:
        (out / "assets.extra").mkdir()
        (out / "content").write_text(content)
        return publish(out, folder)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Versions 1 to 3."""
    for _ in range(3):
        add(tmp_path / "m")
    return tmp_path / "m"


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_no_number_is_taken_twice(tmp_path: Path) -> None:
    each = "for i in range(8): version(f'{number}-{i}')"
    race(tmp_path, each, each, each)
    paths = version_paths(tmp_path)
    assert sorted(paths) == list(range(1, 25))
    contents = [(Path(path) / "content").read_text() for path in paths.values()]
    assert sorted(contents) == sorted(f"{n}-{i}" for n in range(3) for i in range(8))
    for number, path in paths.items():
        assert read_description(Path(path))["version"] == number
    assert hidden(tmp_path) == []


def test_no_label_and_no_withdrawal_is_lost(export: Path) -> None:
    """Each moves a label of its own up and down, one takes versions out of service, one adds some."""
    label = "for i in range(40): move_label(folder, f'l{number}', 1 + (number + i) % 3)"
    scripts = [label, label, label, "for _ in range(5): version('')", "withdraw(folder, 4)"]
    with_four = add(export)
    race(export, *scripts)
    assert with_four.name == "4"
    # The last move is of i = 39, to 1 + (number + 39) % 3.
    assert read_labels(str(export)) == {"l0": 1, "l1": 2, "l2": 3}
    assert withdrawn_versions(export) == {4}
    assert sorted(version_paths(export)) == list(range(1, 10))
    move_label(export, "l0", 2)
    served = ServedVersions.of(export)
    assert served is not None
    assert served.versions == [2, 3, 9]
    text = (export / MODELS_CONFIG).read_text()
    first, _, rest = text.partition("\n")
    assert first.startswith("# Written by Longtail")
    assert rest == models_config(export.name, served, f"/models/{export.name}")
    assert hidden(export) == []


def test_what_was_read_stays_true(export: Path) -> None:
    """Reads, thinks and writes: without the lock around it, the two would count together."""
    move_label(export, "stable", 1)
    for _ in range(100):
        add(export)
    script = """
    for _ in range(40):
        with exclusive(folder):
            now = read_labels(str(folder))["stable"]
            move_label(folder, "stable", now + 1)
    """
    race(export, script, script)
    assert read_labels(str(export)) == {"stable": 81}


def test_a_killed_holder_holds_nothing(export: Path) -> None:
    script = """
    with exclusive(folder):
        print("held", flush=True)
        time.sleep(600)
    """
    with process(script, export) as holder:
        go(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        moved = threading.Event()

        def move() -> None:
            move_label(export, "stable", 2)
            moved.set()

        waiting = threading.Thread(target=move)
        waiting.start()
        assert not moved.wait(0.5)
        assert read_labels(str(export)) == {}
        holder.send_signal(signal.SIGKILL)
        waiting.join(timeout=30)
    assert read_labels(str(export)) == {"stable": 2}
    assert hidden(export) == []


def test_leftovers_of_the_killed_go_and_those_of_the_living_stay(export: Path) -> None:
    script = """
    with staging(folder) as out:
        (out / "content").write_text("half")
        print("filling", flush=True)
        sys.stdin.readline()
        (out / "assets.extra").mkdir()
        publish(out, folder)
    """
    with process(script, export) as killed, process(script, export) as living:
        for each in (killed, living):
            go(each)
            assert each.stdout is not None
            assert each.stdout.readline() == "filling\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert add(export).name == "4"
        assert len([name for name in hidden(export) if name.endswith(".tmp")]) == 1
        go(living)
        assert living.wait(timeout=60) == 0
    assert (export / "5" / "content").read_text() == "half"
    assert hidden(export) == []


def test_who_waits_too_long_is_told(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_WAIT_SECONDS", 0.1)
    caught: list[LongtailError] = []

    def other() -> None:
        try:
            move_label(export, "stable", 1)
        except LongtailError as error:
            caught.append(error)

    with exclusive(export):
        move_label(export, "own", 1)  # who holds it may enter it again
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "expected to be alone in writing" in str(caught[0])
    assert read_labels(str(export)) == {"own": 1}


def test_a_version_that_fails_leaves_nothing(export: Path) -> None:
    with (
        pytest.raises(LongtailFailure, match=r"No space left.*no version appeared"),
        staging(export),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), staging(export) as out:
        (out / str(1 // 0)).write_text("half")
    assert sorted(version_paths(export)) == [1, 2, 3]
    assert hidden(export) == []
    assert json.loads((export / "3/assets.extra/longtail.json").read_text()) == {"version": 3}
