"""The frontier: what each arm pays in overall recall for the tail, as the prior's weight varies."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from preprocessing.base.optional import require
from trainer.evaluation.report.plots import FRAME, LABELS

Json = dict[str, Any]
# Okabe and Ito's colours, told apart with every common colour blindness; without their yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MARKERS = "os^DvPX<>"
_GREY = "#666666"
_POINTS = {
    "als": ("*", _GREY),
    "als_recent": ("*", "white"),
    "neighbours": ("P", _GREY),
    "popularity": ("o", "white"),
    "recent_popularity": ("o", _GREY),
}
"""Marker and filling of the baselines."""
_STYLE = {**FRAME, "font.size": 9, "svg.hashsalt": "frontier"}


def frontier(results: Json) -> str:
    """An SVG: overall recall against that of the tail and of the torso, on test.

    One curve an arm, mean over the seeds, from the lowest beta (smallest dots) to the highest; the
    large marker is the beta that validation chose. The same results give the same file.
    """
    matplotlib = require("matplotlib")
    figure_module = require("matplotlib.figure")
    arms = {name: arm for name, arm in results["arms"].items() if "failed" not in arm}
    betas, k = results["betas"], results["k"]
    with matplotlib.rc_context(_STYLE):
        figure = figure_module.Figure(figsize=(12, 5.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, group in zip(panels, ("tail", "torso"), strict=True):
            for number, (name, arm) in enumerate(arms.items()):
                _curve(
                    panel, number, name, arm["frontier"]["test"], group, betas.index(arm["beta"])
                )
            for name, found in results["baselines"].items():
                cells, (marker, filling) = found["test"], _POINTS[name]
                if None not in (cells["overall"], cells[group]):
                    panel.scatter(
                        cells["overall"], cells[group], s=70, marker=marker, color=filling,
                        edgecolors=_GREY, label=LABELS[name], zorder=4, clip_on=False,
                    )  # fmt: skip
            panel.set_xlabel(f"overall recall@{k}")
            panel.set_ylabel(f"{group} recall@{k} (square-root scale)")
            # The tail's recalls lie orders of magnitude apart, and 0 is one of them.
            panel.set_yscale("function", functions=(_root, _square))
            panel.set_ylim(bottom=0)
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right center")
        figure.suptitle(
            f"{results['name']}, new items, test, mean over seeds\nAlong a curve beta rises from "
            f"{betas[0]:g} (smallest dot) to {betas[-1]:g}; large marker: the beta chosen on validation",
            fontsize=9,
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _curve(panel: Any, number: int, name: str, test: Json, group: str, chosen: int) -> None:
    points = zip(test["overall"], test[group], strict=True)
    xs, ys = zip(*((x or 0.0, y or 0.0) for x, y in points), strict=True)
    colour = _COLOURS[number % len(_COLOURS)]
    panel.plot(
        xs,
        ys,
        color=colour,
        linestyle=_LINES[number // len(_COLOURS) % len(_LINES)],
        linewidth=1.3,
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=8,
        markeredgecolor="white",
        markevery=[chosen],
        label=name,
        zorder=3,
    )
    sizes = [2 + 14 * place / max(len(xs) - 1, 1) for place in range(len(xs))]
    panel.scatter(xs, ys, s=sizes, color=colour, zorder=3)


def _root(values: Any) -> Any:
    return np.sqrt(np.maximum(values, 0))


def _square(values: Any) -> Any:
    return np.square(values)
