"""Set-up on machines whose `python3.10` is not what it says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN_SHIM = '#!/bin/sh\necho "pyenv: $(basename $0): command not found" >&2\nexit 127\n'
OLD_PYTHON = "#!/bin/sh\necho '3.8 /usr/bin/python3.8'\nexit 1\n"


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def working(path: Path) -> Path:
    return executable(path, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')


@pytest.fixture
def name() -> str:
    """What a command that runs this Python is called."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def find(
    root: Path, home: Path, *directories: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs the search with nothing on PATH but `directories` and what the script itself needs."""
    tools = home / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for tool in ("bash", "cat", "sh", "basename"):
        if not (tools / tool).exists():
            found = next(p for d in ("/bin", "/usr/bin") if (p := Path(d, tool)).exists())
            (tools / tool).symlink_to(found)
    path = os.pathsep.join(map(str, (*directories, tools)))
    return subprocess.run(
        [tools / "bash", root / "scripts" / "find_python.sh"],
        env={"PATH": path, "HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def nowhere_else(root: Path, home: Path) -> Path:
    """A root whose script does not look outside PATH and HOME: this machine may hold a Python there."""
    text = (root / "scripts" / "find_python.sh").read_text()
    for place in ("/usr/bin/", "/usr/local/bin/", "/opt/homebrew/bin/"):
        assert place in text
        text = text.replace(place, str(home / "nowhere") + "/")
    executable(home / "scripts" / "find_python.sh", text)
    return home


def same_interpreter(printed: str) -> bool:
    return Path(printed.strip()).resolve() == Path(sys.executable).resolve()


def test_goes_past_a_broken_shim_to_the_next_on_path(root: Path, tmp_path: Path, name: str) -> None:
    for shim in (name, "python3", "python"):
        executable(tmp_path / "shims" / shim, BROKEN_SHIM)
    working(tmp_path / "good" / name)
    found = find(nowhere_else(root, tmp_path), tmp_path, tmp_path / "shims", tmp_path / "good")
    assert found.returncode == 0, found.stderr
    assert same_interpreter(found.stdout)
    assert found.stderr == ""


@pytest.mark.parametrize("where", ["PYENV_ROOT", "HOME"])
def test_finds_the_version_that_a_pyenv_shim_hides(
    root: Path, tmp_path: Path, name: str, where: str
) -> None:
    executable(tmp_path / "shims" / name, BROKEN_SHIM)
    pyenv = tmp_path / ("elsewhere" if where == "PYENV_ROOT" else ".pyenv")
    working(pyenv / "versions" / f"{name.removeprefix('python')}.99" / "bin" / "python")
    env = {"PYENV_ROOT": str(pyenv)} if where == "PYENV_ROOT" else {}
    found = find(nowhere_else(root, tmp_path), tmp_path, tmp_path / "shims", **env)
    assert found.returncode == 0, found.stderr
    assert same_interpreter(found.stdout)


def pretending(path: Path, version: str) -> Path:
    """A working Python that reports another version."""
    major, minor = version.split(".")
    lie = f"import sys; sys.version_info = ({major}, {minor}, 0, 'final', 0); exec(sys.argv.pop(1))"
    return executable(
        path,
        "#!/bin/sh\n"
        f'[ "$1" = -c ] || exec {shlex.quote(sys.executable)} "$@"\n'
        f'shift; exec {shlex.quote(sys.executable)} -c {shlex.quote(lie)} "$@"\n',
    )


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_one_of_the_four_is_enough(root: Path, tmp_path: Path, version: str) -> None:
    pretending(tmp_path / "good" / f"python{version}", version)
    found = find(nowhere_else(root, tmp_path), tmp_path, tmp_path / "good")
    assert found.returncode == 0, found.stderr
    assert same_interpreter(found.stdout)


@pytest.mark.parametrize(
    ("env", "first"),
    [
        ({}, "3.10"),
        ({"STACK": "full"}, "3.10"),
        ({"STACK": "current"}, "3.12"),
        ({"PYTHON": "python3.13"}, "3.13"),
        ({"PYTHON": "3.11"}, "3.11"),
    ],
)
def test_of_several_the_first_of_the_order_is_taken(
    root: Path, tmp_path: Path, env: dict[str, str], first: str
) -> None:
    versions = tmp_path / ".pyenv" / "versions"
    for version in ("3.10", "3.11", "3.12", "3.13"):
        python = versions / f"{version}.1" / "bin" / "python"
        # The last arguments of the probe are the versions that fit.
        executable(
            python,
            '#!/bin/sh\nfor wanted in "$@"; do\n'
            f'  if [ "$wanted" = {version} ]; then echo "{version} {python}"; exit 0; fi\n'
            "done\nexit 1\n",
        )
    found = find(nowhere_else(root, tmp_path), tmp_path, **env)
    assert found.returncode == 0, found.stderr
    assert f"/versions/{first}.1/" in found.stdout


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"STACK": "newest"}, "received newest"),
        ({"STACK": "current", "PYTHON": "python3.10"}, "3.12 or 3.13"),
        ({"PYTHON": "python3.9"}, "3.10, 3.11, 3.12 or 3.13"),
    ],
)
def test_what_no_stack_has_is_refused(
    root: Path, tmp_path: Path, env: dict[str, str], message: str
) -> None:
    found = find(root, tmp_path, **env)
    assert found.returncode == 2
    assert found.stdout == ""
    assert message in found.stderr


def test_takes_a_fitting_python3(root: Path, tmp_path: Path) -> None:
    working(tmp_path / "good" / "python3")
    found = find(nowhere_else(root, tmp_path), tmp_path, tmp_path / "good")
    assert found.returncode == 0, found.stderr
    assert same_interpreter(found.stdout)


@pytest.mark.parametrize("text", [BROKEN_SHIM, OLD_PYTHON])
def test_a_named_python_that_does_not_fit_is_an_error(
    root: Path, tmp_path: Path, name: str, text: str
) -> None:
    working(tmp_path / "good" / name)
    bad = executable(tmp_path / "bad" / "python", text)
    found = find(root, tmp_path, tmp_path / "good", PYTHON=str(bad))
    assert found.returncode == 2
    assert found.stdout == ""
    assert str(bad) in found.stderr


def test_names_the_remedy_where_there_is_none(root: Path, tmp_path: Path) -> None:
    nowhere_else(root, tmp_path)
    executable(tmp_path / "shims" / "python3.10", BROKEN_SHIM)
    executable(tmp_path / "shims" / "python3", OLD_PYTHON)
    found = find(tmp_path, tmp_path, tmp_path / "shims")
    assert found.returncode == 2
    assert found.stdout == ""
    assert "3.10" in found.stderr
    assert "pyenv install" in found.stderr
    assert "PYTHON=" in found.stderr


def test_an_environment_made_by_hand_is_left_alone(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "venv" / "precious"
    mine.parent.mkdir()
    mine.write_text("mine")
    made = subprocess.run(
        ["bash", "scripts/make_venv.sh", mine.parent],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert made.returncode == 2
    assert "VENV=" in made.stderr
    assert mine.read_text() == "mine"


def test_another_python_than_the_environment_has_is_refused(root: Path, tmp_path: Path) -> None:
    versions = {"full": ("3.10", "3.11"), "current": ("3.12", "3.13")}
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    mine = next(stack for stack, pythons in versions.items() if here in pythons)
    other = next(stack for stack in versions if stack != mine)
    (tmp_path / "bin").mkdir()
    working(tmp_path / "bin" / "python")
    (tmp_path / ".longtail-complete").write_text("now")

    def asked(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "scripts/same_python.sh", tmp_path],
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    assert asked(STACK=mine).returncode == asked(PYTHON=sys.executable).returncode == 0
    refused = asked(STACK=other)
    assert refused.returncode == 2
    assert here in refused.stderr
    assert "VENV=" in refused.stderr
