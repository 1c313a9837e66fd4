"""What an ablation leaves: ablation.md, ablation.json, frontier.svg; and its table for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pipelines.ablation.arms import LOG_Q, NO_CORRECTION, TEMPERATURE
from pipelines.ablation.figure import frontier
from pipelines.ablation.trainings_bar import minutes
from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailError
from trainer.evaluation.report.plots import LABELS

Json = dict[str, Any]
GROUPS = ("overall", "head", "torso", "tail")
FILES = ("ablation.json", "frontier.svg", "ablation.md")
_HEADER = ["arm", "temperature, tuned", "beta", *GROUPS, "ms/step"]
_WHAT = """\
Recall@{k} on items new to the user, test split, mean ± standard deviation over the seeds {seeds}. Chosen on
validation: temperature and other values with seed {first}, each at its best beta, then beta (score + beta log P when
serving) over all seeds. Test was ranked once, by the models so chosen. An asterisk: the choice is at the edge of what
was searched."""
_PRIOR = """\
Correct in training, or multiply by the prior when serving? Each at beta 0, the model as trained, and at the beta that
validation chose:"""


def require_ours(out: Path) -> None:
    """Raises `LongtailError` where a file of these names lies that no ablation wrote."""
    there = [name for name in FILES if (out / name).exists()]
    try:
        made = json.loads((out / FILES[0]).read_text())["made"]
        is_ours = {"command", "libraries"} <= made.keys()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        is_ours = False
    if there and not is_ours:
        raise LongtailError(
            f"{out} holds {', '.join(there)}, which longtail ablate did not write: move it away, or give "
            "another folder by --out"
        )


def write(results: Json, out: Path) -> None:
    """Writes the three files, each whole; that by which they are known first."""
    texts = (json.dumps(results, indent=1) + "\n", frontier(results), markdown(results))
    for name, text in zip(FILES, texts, strict=True):
        write_text_atomically(out / name, text)


def markdown(results: Json) -> str:
    """The content of ablation.md."""
    made, seeds = results["made"], results["seeds"]
    what = _WHAT.format(k=results["k"], seeds=", ".join(map(str, seeds)), first=seeds[0])
    parts = [f"# Ablation: {results['name']}", what, _table(_HEADER, _arms(results))]
    failed = {name: arm["failed"] for name, arm in results["arms"].items() if "failed" in arm}
    parts += [f"{name} failed: {reason}" for name, reason in failed.items()]
    if results["baselines"]:
        parts.append(_table(["baseline", *GROUPS], _baselines(results["baselines"])))
    if prior := _prior(results["arms"]):
        parts += [_PRIOR, _table(["arm", "beta", *GROUPS], prior)]
    parts.append("![overall recall against that of tail and torso](frontier.svg)")
    parts.append(
        f"`{made['command']}`, {made['at']}, {made['cores']} cores, {minutes(made['seconds'])} of "
        "training and judging."
    )
    return "\n\n".join(parts) + "\n"


def render_table(results: Json) -> Table:
    """The arms and the baselines on test, for a terminal of 100 columns."""
    table = Table(
        title=f"{results['name']}: recall@{results['k']} on test, new items",
        caption=f"± over {len(results['seeds'])} seeds; ms a step; all of it in ablation.md",
    )
    table.add_column("")
    for name in ("temp.", "beta", *GROUPS, "ms"):
        table.add_column(name, justify="right")
    for name, arm in results["arms"].items():
        if "failed" in arm:
            table.add_row(name, "failed")
            continue
        means = [_number(arm["test"][group]["mean"]) for group in GROUPS[1:]]
        overall, *_ = _cells(arm["test"])
        table.add_row(
            name, f"{arm['temperature']:g}", f"{arm['beta']:g}", overall, *means, _speed(arm)
        )
    table.add_section()
    for name, found in results["baselines"].items():
        cells = [_number(found["test"][group]) for group in GROUPS]
        table.add_row(LABELS[name], "", "", *cells, "")
    return table


def _arms(results: Json) -> list[list[str]]:
    rows = []
    for name, arm in results["arms"].items():
        if "failed" in arm:
            rows.append([name, "failed", *[""] * (len(_HEADER) - 2)])
            continue
        edges = arm["at_the_edge"]
        tuned = [f"{arm['temperature']:g}{_star(TEMPERATURE in edges)}"]
        for key, value in arm["tuned"].items():
            tuned.append(f"{key.rpartition('.')[2]} {value}{_star(key in edges)}")
        beta = f"{arm['beta']:g}{_star('beta' in edges)}"
        rows.append([name, ", ".join(tuned), beta, *_cells(arm["test"]), _speed(arm)])
    return rows


def _prior(arms: Mapping[str, Json]) -> list[list[str]]:
    """The two arms at beta 0 and at the tuned one; nothing without both of them."""
    both = {name: arms.get(name, {"failed": ""}) for name in (NO_CORRECTION, LOG_Q)}
    if any("failed" in arm for arm in both.values()):
        return []
    return [
        [name, f"{beta:g}", *_cells(arm[cell])]
        for name, arm in both.items()
        for beta, cell in {0.0: "test_at_zero", arm["beta"]: "test"}.items()
    ]


def _baselines(baselines: Json) -> list[list[str]]:
    rows = []
    for name, found in baselines.items():
        settings = ", ".join(f"{key} {value}" for key, value in found.get("settings", {}).items())
        label = f"{LABELS[name]} ({settings})" if settings else LABELS[name]
        rows.append([label, *(_number(found["test"][group]) for group in GROUPS)])
    return rows


def _cells(summary: Json) -> list[str]:
    cells = []
    for group in GROUPS:
        mean, deviation = summary[group]["mean"], summary[group]["std"]
        cells.append(_number(mean) + ("" if deviation is None else f" ± {_number(deviation)}"))
    return cells


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _speed(arm: Json) -> str:
    return "–" if arm["ms_per_step"] is None else f"{arm['ms_per_step']:.1f}"


def _star(is_at_edge: bool) -> str:
    return "*" if is_at_edge else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
