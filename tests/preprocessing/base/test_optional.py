"""What an error advises where a package is missing: an extra that the running Python has."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement

from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import ONLY_ON, remedy, require

PYTHONS = [(3, 10), (3, 11), (3, 12), (3, 13)]


@pytest.mark.parametrize("python", [(3, 12), (3, 13)])
@pytest.mark.parametrize(
    ("extra", "names"), [("scann", "3.10 and 3.11 only"), ("tfx", "3.10 only")]
)
def test_an_extra_of_the_other_stack_is_not_advised(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], extra: str, names: str
) -> None:
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    with pytest.raises(LongtailError) as raised:
        require("no_such_package", extra)
    assert names in str(raised.value)
    assert "pip install" not in str(raised.value)


def test_an_extra_of_this_stack_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    assert remedy("scann") == "pip install 'longtail[scann]'"
    assert remedy("serving") == "pip install 'longtail[serving]'"
    assert "3.10 only, this is 3.11" in remedy("tfx")


def test_the_extras_of_one_stack_are_those_that_setup_py_leaves_empty(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(root)
    runpy.run_path("setup.py")
    found = {}
    for extra, requirements in given["extras_require"].items():
        markers = [Requirement(requirement).marker for requirement in requirements]
        held = tuple(
            python
            for python in PYTHONS
            if any(
                m is None or m.evaluate({"python_version": ".".join(map(str, python))})
                for m in markers
            )
        )
        if held != tuple(PYTHONS):
            found[extra] = held
    assert found == ONLY_ON
