"""What the tree must keep to: the direction of imports, sizes, docstrings, the lock, no machine's traces."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.index.registry import INDEXES
from trainer.evaluation.baselines.registry import BASELINES
from trainer.losses.registry import LOSSES
from trainer.towers.history.registry import ENCODERS

ORDER = ("preprocessing", "trainer", "serving", "pipelines")
ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]
STACKS = {
    "full": {"3.10": "python_version < '3.11'", "3.11": "python_version >= '3.11'"},
    "current": {"3.12": "python_version < '3.13'", "3.13": "python_version >= '3.13'"},
}
PYTHONS = tuple(python for markers in STACKS.values() for python in markers)

# In pieces, so that this file holds none of them.
HOSTS = ("files.python" + "hosted", "pypi" + ".org", "registry.npm" + "js", "deb.debian" + ".org")
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(?:" + "|".join(("ro" + "ot/", "ho" + "me/", "Us" + "ers/", "wo" + "rk/")) + r")"
    r"|fi" + r"le:///|-" + r"-(?:extra-)?index-url|-" + r"-find-links"
)


def imported_packages(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import, wherever it stands, by statement or by call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, package[0] if node.level else (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in {"import_module", "__import__", "run_module"}:
                yield node.lineno, str(node.args[0].value).split(".")[0]


def against_the_direction(source: str, package: tuple[str, ...]) -> list[str]:
    """The imports of a file that lead to the right of its own package."""
    allowed = ORDER[: ORDER.index(package[0]) + 1]
    return [
        f"line {line} imports {name}"
        for line, name in imported_packages(source, package)
        if (name in ORDER and name not in allowed) or name in {"tests", "benchmarks"}
    ]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_lead_to_the_left(path: Path) -> None:
    wrong = against_the_direction(path.read_text(), path.relative_to(ROOT).parts)
    assert not wrong, f"allowed is {' <- '.join(ORDER)}; {path.name}: {'; '.join(wrong)}"


@pytest.mark.parametrize(
    "source",
    [
        "import serving.index.interface",
        "from pipelines import cli",
        "def f():\n    from serving.index.interface import Index",
        "if TYPE_CHECKING:\n    import pipelines.config",
        "importlib.import_module('serving.server.run')",
        "import tests.e2e.shop",
    ],
)
def test_the_import_test_sees(source: str) -> None:
    assert against_the_direction(source, ("trainer", "layers", "x.py"))


@pytest.mark.parametrize(
    "source",
    [
        "import trainer.towers.recall_model",
        "from preprocessing import schema",
        "from . import serving",
    ],
)
def test_the_import_test_allows(source: str) -> None:
    assert not against_the_direction(source, ("trainer", "layers", "x.py"))


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


FLOORS = (
    {"base", "functional"},
    {"data"},
    {"losses", "negatives", "towers", "ssl"},
    {"evaluation", "loop", "distributed"},
)
"""Rooms of the trainer: each imports from its own floor and those before it."""
ANYWHERE = (
    "trainer.config",
    "trainer.losses.registry",
    "trainer.evaluation.baselines.registry",
    "trainer.towers.history.registry",
)
"""What every room may read; it imports no code of a room."""


def rooms(source: str) -> Iterator[tuple[int, str]]:
    """Line and room of each import from the trainer."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if name.startswith("trainer.") and not name.startswith(ANYWHERE):
                yield node.lineno, name.split(".")[1]


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parts[len(ROOT.parts)] == "trainer"], ids=str
)
def test_the_rooms_of_the_trainer_import_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[1]
    at = next((n for n, floor in enumerate(FLOORS) if room in floor), len(FLOORS))
    allowed = set().union(*FLOORS[: at + 1]) if room != "config" else {"base"}
    wrong = [
        f"line {line}: {name}" for line, name in rooms(path.read_text()) if name not in allowed
    ]
    assert not wrong or room.endswith(".py"), f"{path.name}: {wrong}"


def test_every_room_of_the_trainer_has_its_floor() -> None:
    found = {path.parent.name for path in (ROOT / "trainer").glob("*/__init__.py")}
    assert found == set().union(*FLOORS) | {"config"}


def test_what_a_registry_names_is_there() -> None:
    """By the text of its file: the code itself may need what this stack has not."""
    places = [
        each.place for table in (LOSSES, BASELINES, ENCODERS, INDEXES) for each in table.values()
    ]
    for place in places:
        module, _, name = place.partition(":")
        defined = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text()).body
        assert name in {getattr(each, "name", None) for each in defined}, place


def test_the_tables_of_the_docs_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/doc_tables.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_there_are_files_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ORDER)


def lock() -> dict[str, dict[str, str]]:
    """Python version to the pins that its stack's lock holds for it."""
    pins: dict[str, dict[str, str]] = {python: {} for python in PYTHONS}
    for stack, markers in STACKS.items():
        name_of_lock = f"requirements-{stack}.lock"
        for line in (ROOT / name_of_lock).read_text().splitlines():
            if line.startswith("#"):
                continue
            pin = re.fullmatch(r"([a-z0-9.-]+)==([\w.+!]+)(?: ; (.+))?", line)
            assert pin, f"{name_of_lock} holds more than name==version: {line!r}"
            name, version, marker = pin.groups()
            assert marker is None or marker in markers.values(), f"{name_of_lock}: {line!r}"
            for python in markers:
                if marker in (None, markers[python]):
                    assert name not in pins[python], f"{name} is pinned twice for {python}"
                    pins[python][name] = version
    return pins


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return given


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_answers_to_setup_py(setup_arguments: dict[str, Any], python: str) -> None:
    pins = lock()[python]
    wanted = setup_arguments["install_requires"] + setup_arguments["extras_require"]["all"]
    wrong = []
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        version = pins.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement} against {version}")
    assert not wrong, f"`make lock` is due: {'; '.join(wrong)}"


def test_peers_stay_out_of_the_lock(setup_arguments: dict[str, Any]) -> None:
    peers = {Requirement(r).name for r in setup_arguments["extras_require"]["peers"]}
    assert peers
    assert not peers & {name for pins in lock().values() for name in pins}


def test_every_package_is_packaged(setup_arguments: dict[str, Any]) -> None:
    found = {".".join(path.relative_to(ROOT).parent.parts) for path in FILES}
    assert found <= set(setup_arguments["packages"]), "a folder without __init__.py?"
    assert not [p for p in setup_arguments["packages"] if p.split(".")[0] not in ORDER]


def tracked() -> list[Path]:
    """Tracked files that are text; those not yet tracked nor ignored count too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_and_no_registry_stands_in_the_tree() -> None:
    wrong = []
    for path in tracked():
        if b"\0" in (content := path.read_bytes()):
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            if any(host in line for host in HOSTS) or MACHINE_PATHS.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not wrong, "\n".join(wrong)
