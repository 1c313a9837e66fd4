"""The examples run as their first lines say, and print what the page about them promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMMANDS = [path for path in EXAMPLES if '__name__ == "__main__"' in path.read_text()]


def run(name: str, *arguments: str | Path) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_an_example_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 120
    assert ast.get_docstring(ast.parse(text)), "no module docstring"


@pytest.mark.parametrize("path", COMMANDS, ids=[path.name for path in COMMANDS])
def test_an_example_names_its_command_and_has_a_place_in_the_page(path: Path) -> None:
    assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")
    page = (ROOT / "docs" / "in_your_own_model.md").read_text()
    assert f"examples/{path.name}" in page


def test_the_page_shows_the_code_as_it_stands() -> None:
    page = (ROOT / "docs" / "in_your_own_model.md").read_text()
    code = "\n".join(path.read_text() for path in EXAMPLES)
    known = {line.strip() for line in code.splitlines()}
    shown = [
        line.strip()
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
        if line.strip() and line.strip() != "..."
    ]
    assert shown
    assert [line for line in shown if line not in known] == []


@pytest.mark.slow
def test_corrections_undo_what_popularity_does_to_the_stock_task(tmp_path: Path) -> None:
    # Nothing but popularity is in this log: the right ranking is by it. Without a correction a
    # popular item is pushed down as often as it is a negative, so that the head is lost.
    generator, share = np.random.default_rng(0), 1 / np.arange(1, 601)
    users = np.repeat(np.arange(700), 20)
    items = generator.choice(600, len(users), p=share / share.sum())
    log = {"user_id": users, "item_id": items, "timestamp": np.arange(len(users))}
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    printed = run("tfrs_retrieval.py", "--data", tmp_path / "log.parquet", "--epochs", "4")
    head = {
        line[:32].strip(): float(line[32:].split()[2])
        for line in printed.splitlines()
        if "±" in line
    }
    assert len(head) == 7
    uncorrected = [head.pop("tfrs.tasks.Retrieval"), head.pop("RetrievalTask, log_q none")]
    assert min(head.values()) > 1.5 * max(uncorrected)


@pytest.mark.slow
def test_the_stream_knows_the_present_better_than_all_counts() -> None:
    printed = run("frequency_estimator.py")
    found = re.findall(r"counts of ([\w ]+):.*\| ([\d.]+), mean difference ([+-][\d.]+)", printed)
    middle = {name: float(median) for name, median, _ in found}
    mean = {name: float(value) for name, _, value in found}
    # A learning rate of 0.02 has a deviation of 0.1, and 50 events one of 0.14: medians of 2/3 of them.
    assert middle["its last half"] < 0.2
    assert middle["its last half"] < 0.75 * middle["all of it"]
    # Counts of the whole log overrate what was popular; the stream has forgotten it.
    assert abs(mean["its last half"]) < 0.05 < abs(mean["all of it"])


@pytest.mark.slow
def test_the_estimator_takes_a_log_of_ones_own(tmp_path: Path) -> None:
    items = np.random.default_rng(0).integers(0, 20, 256 * 100 + 5)
    pq.write_table(pa.table({"item_id": items}), tmp_path / "log.parquet")
    printed = run("frequency_estimator.py", "--data", tmp_path / "log.parquet")
    assert printed.startswith("100 batches of 256\n")
    assert "20 items seen 50 times or more" in printed


@pytest.mark.slow
def test_a_tower_learns_to_recognise_items_by_what_is_left() -> None:
    printed = run("ssl_task.py", "--steps", "150")
    before, after = map(float, re.findall(r"([\d.]+) before, ([\d.]+) after", printed)[0])
    assert after > before + 0.3


@pytest.mark.slow
def test_the_saved_model_answers_like_numpy(tmp_path: Path) -> None:
    printed = run("index_and_signatures.py", "--out", tmp_path)
    assert "TF1 session equals NumPy: True\n" in printed
    assert "REST equals NumPy: True\n" in printed
    assert "without exclusion: True" in printed
    assert (tmp_path / "movies" / "1" / "saved_model.pb").is_file()
