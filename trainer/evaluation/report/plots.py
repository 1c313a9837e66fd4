"""The plots of the report, as inline SVG that follows the page into dark mode.

Matplotlib draws with placeholder colours; each is then replaced by a CSS variable of the page, so
one drawing is readable on light and dark ground. Text stays text (`svg.fonttype: none`): it can be
selected, searched and read aloud.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from preprocessing.base.optional import require
from trainer.evaluation.baselines.registry import BASELINES
from trainer.evaluation.buckets import BUCKETS

RANKERS = ("model", *BASELINES)
"""In the order, colours and markers of every plot and table."""
LABELS = {"model": "model", **{name: each.label for name, each in BASELINES.items()}}
_MARKERS = dict(zip(RANKERS, itertools.cycle("os*P^vDX<>"), strict=False))
_PALETTE = (
    ("#0b62b8", "#6db3f8"), ("#b3460f", "#f2935c"), ("#c2185b", "#f48fb1"), ("#7a6a00", "#d9c75a"),
    ("#4d7a1f", "#a5d06a"), ("#00807a", "#4fd1c5"), ("#8a3f9e", "#d49be6"), ("#5d4037", "#bcaaa4"),
    ("#455a64", "#b0bec5"),
)  # fmt: skip
COLOURS = {
    name.replace("_", "-"): pair
    for name, pair in zip(RANKERS, itertools.cycle(_PALETTE), strict=False)
}
"""CSS variable of each ranker: its colour on white and on dark ground."""
_COLOURS = {name: f"#0101{index:02x}" for index, name in enumerate(RANKERS)}
_INK, _FAINT = "#010110", "#010111"
_VARIABLES = {
    **{_COLOURS[name]: f"var(--{name.replace('_', '-')})" for name in RANKERS},
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
}
FRAME = {
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
"""What all figures of the project share."""
_STYLE = {
    **FRAME,
    "svg.fonttype": "none",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlesize": 10,
    "errorbar.capsize": 3.0,
    **dict.fromkeys(("axes.edgecolor", "grid.color"), _FAINT),
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "legend.labelcolor"), _INK
    ),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}
_LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (6, 2)), (0, (1, 1)), (0, (3, 1, 1, 1)), ":")
_Z95 = 1.96


def recall_bars(rankings: dict[str, Any], mode: str, k: int) -> str:
    """One panel a group, each on its own scale (the tail lies far below); 95 % intervals."""
    names = present(rankings, mode)
    groups = ["overall", *(b for b in BUCKETS if any(rankings[n][mode][b]["users"] for n in names))]

    def draw(figure: Any) -> None:
        for panel, group in zip(
            figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True
        ):
            for place, name in enumerate(names):
                cell = rankings[name][mode][group]
                value, error = cell[f"recall@{k}"] or 0.0, _Z95 * (cell[f"recall@{k}/se"] or 0.0)
                # An interval below 0 means nothing for a recall.
                panel.bar(place, value, 0.72, color=_COLOURS[name])
                panel.errorbar(
                    place, value, [[min(error, value)], [error]], color=_INK, linewidth=1
                )
                label = f"{value:.4f}" if value >= 0.001 or not value else f"{value:.5f}"
                panel.annotate(
                    label,
                    (place, value + error),
                    (0, 5),
                    textcoords="offset points",
                    rotation=90,
                    ha="center",
                    fontsize=8,
                )
            panel.set_title(f"{group}\n{cell['users']:,} users")
            panel.set_xticks(range(len(names)), [LABELS[n] for n in names], rotation=30, ha="right")
            panel.margins(y=0.3)
            nothing = not any(rankings[name][mode][group][f"recall@{k}"] for name in names)
            panel.set_ylim(0, 1 if nothing else None)
            panel.grid(axis="x", visible=False)
        figure.axes[0].set_ylabel(f"recall@{k}")

    return _svg(
        f"bars-{mode}",
        f"recall@{k} per popularity bucket, mode {mode}",
        draw,
        width=2.1 * len(groups) + 1,
    )


def frontier(rankings: dict[str, Any], mode: str, k: int) -> str:
    """Overall recall against tail recall: each ranker one point with 95 % intervals."""

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        key = f"recall@{k}"
        for name in present(rankings, mode):
            overall, tail = rankings[name][mode]["overall"], rankings[name][mode]["tail"]
            x, y = overall[key] or 0.0, tail[key] or 0.0
            right, up = (_Z95 * (cell[f"{key}/se"] or 0.0) for cell in (overall, tail))
            panel.errorbar(
                x,
                y,
                xerr=[[min(right, x)], [right]],
                yerr=[[min(up, y)], [up]],
                label=LABELS[name],
                color=_COLOURS[name],
                marker=_MARKERS[name],
                markersize=8,
                linewidth=1,
                linestyle="none",
            )
        panel.set_xlabel(f"overall {key}")
        panel.set_ylabel(f"tail {key}")
        panel.margins(0.1)
        panel.legend(fontsize=9)

    return _svg(
        f"frontier-{mode}",
        f"overall recall@{k} against tail recall@{k}, mode {mode}",
        draw,
        width=5.2,
    )


def long_tail(catalogue: dict[str, Any], buckets: dict[str, Any]) -> str:
    """Training events of each item by popularity rank, with the borders of the buckets."""

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        if catalogue["rank"]:
            panel.fill_between(
                catalogue["rank"], catalogue["events"], 0.8, color=_COLOURS["model"], alpha=0.25
            )
            panel.plot(catalogue["rank"], catalogue["events"], color=_COLOURS["model"])
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(bottom=0.8)
            last, top = 0, panel.get_ylim()[1]
            for name in ("head", "torso", "tail"):
                items = int(buckets[name]["items"])
                if not items:
                    continue
                left, last = last + 1, last + items
                panel.text((left * last) ** 0.5, top, name, ha="center", va="bottom", fontsize=9)
                if name != "tail":
                    panel.axvline(last + 0.5, color=_INK, linewidth=1, linestyle="--")
        panel.set_xlabel("popularity rank of the item")
        panel.set_ylabel("training events")

    return _svg("long-tail", "training events of items by popularity rank", draw, width=5.6)


def training_history(history: Sequence[dict[str, Any]], monitor: str) -> str:
    """Losses, the monitored validation figure with its best value, and the same of the tail."""
    numeric = [key for key in history[0] if all(_is_number(record.get(key)) for record in history)]
    steps = [record.get("step", number + 1) for number, record in enumerate(history)]
    panels = {
        "training loss": [key for key in numeric if "loss" in key],
        "validation": [key for key in numeric if key == monitor],
        "validation, tail": [key for key in numeric if key == f"{monitor}/tail"],
    }
    shown = {title: keys for title, keys in panels.items() if keys} or {"no figures": []}

    def draw(figure: Any) -> None:
        for panel, (title, keys) in zip(
            figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
        ):
            for key, style in zip(keys, _LINES, strict=False):
                values = [record[key] for record in history]
                colour = _COLOURS["als" if "loss" in key else "model"]
                panel.plot(steps, values, linestyle=style, color=colour, marker=".", label=key)
                if key.startswith(monitor):
                    best = max(range(len(values)), key=values.__getitem__)
                    place, label = (steps[best], values[best]), f"{values[best]:.4f}"
                    panel.annotate(label, place, (0, 7), textcoords="offset points", ha="center")
            panel.set_title(title)
            panel.set_xlabel("step")
            panel.locator_params(axis="x", nbins=5)
            panel.margins(y=0.2)
            if keys:
                panel.legend(fontsize=8, loc="best" if len(keys) > 1 else "lower right")

    return _svg("history", "loss and validation recall over training", draw, 3.3 * len(shown))


def exposure_curve(rankings: dict[str, Any], mode: str) -> str:
    """Share of all shown places that the most shown items take, by their number on a log scale."""

    def draw(figure: Any) -> None:
        panel = figure.subplots()
        items: list[int] = []
        for name, style in zip(present(rankings, mode), _LINES, strict=False):
            curve = rankings[name][mode]["exposure"]["curve"]
            items = curve["items"]
            panel.plot(
                items, curve["share"], linestyle=style, color=_COLOURS[name], label=LABELS[name]
            )
        if items:
            even = [count / items[-1] for count in items]
            panel.plot(
                items, even, color=_FAINT, linestyle="--", linewidth=1, label="all items equally"
            )
            panel.set_xscale("log")
        panel.set_xlabel("items, most shown first")
        panel.set_ylabel("share of the places shown")
        panel.legend(fontsize=9, loc="upper left")

    return _svg(f"exposure-{mode}", f"exposure of the catalogue, mode {mode}", draw, width=5.2)


def present(rankings: Mapping[str, Any], mode: str) -> list[str]:
    """Rankers that have figures of a mode, in the order of `RANKERS`."""
    return [name for name in RANKERS if mode in rankings.get(name, {})]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _svg(
    name: str, label: str, draw: Callable[[Any], None], width: float, height: float = 3.4
) -> str:
    """Draws without global state; makes the SVG fit into a page with other SVGs."""
    matplotlib = require("matplotlib")
    figure_module = require("matplotlib.figure")
    # A fixed salt makes ids, and so the whole report, the same for the same figures.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = figure_module.Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids must be unique on the page, and so must the references to them.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
    assert size is not None  # matplotlib always writes both
    text = text.replace(
        size.group(0), f'role="img" aria-label="{label}" style="max-width: {size.group(1)}pt"', 1
    )
    # Inside HTML no namespace is declared; without them the page holds no address at all.
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
