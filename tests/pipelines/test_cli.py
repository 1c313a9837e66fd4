"""The command itself: what it imports, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.commands.options import Output, console
from preprocessing.base.artifacts import write_manifest
from tests.trainer.synthetic import make_config, write_data

HEAVY = ("tensorflow", "apache_beam", "pandas", "pyarrow", "numpy")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["serve", "--help"]])
def test_help_waits_for_no_library(root: Path, words: list[str]) -> None:
    code = f"""
import sys
from pipelines.cli import main
try:
    main({words})
finally:
    print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stderr == "[]\n"
    assert "Usage" in done.stdout


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with finished data; the console is as it was afterwards."""
    for name in ("quiet", "stderr"):
        monkeypatch.setattr(console, name, False)
    monkeypatch.setattr(Output, "as_json", False)
    made = make_config(tmp_path, data_checks={"enabled": False}).model_dump(mode="json")
    (tmp_path / "shop.yaml").write_text(json.dumps(made))
    write_data(tmp_path / "data")
    write_manifest(
        tmp_path / "data",
        "d",
        {"counts": {"rows": 1_000, "examples": {"train": 9}}, "rejected": {}},
    )
    return tmp_path / "shop.yaml"


@pytest.mark.parametrize("place", ["before", "behind"])
def test_json_goes_to_stdout_alone(
    shop: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", str(shop)]
    assert cli.main(["--json", *words] if place == "before" else [*words, "--json"]) == 0
    console.print("progress")
    said = capsys.readouterr()
    assert json.loads(said.out)["counts"] == {"rows": 1_000, "examples": {"train": 9}}
    assert "progress" in said.err


def test_quiet_leaves_the_result(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(shop), "--quiet"]) == 0
    console.print("progress")
    said = capsys.readouterr()
    assert "examples train" in said.out and "progress" not in said.out + said.err


def test_an_error_is_one_line_with_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(tmp_path / "none.yaml"), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("error: ")


@pytest.mark.parametrize("width", [40, 100])
def test_a_table_fits_a_narrow_terminal(
    shop: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["inspect", str(shop)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width
