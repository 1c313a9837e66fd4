"""The four steps on this machine, each skipped where its artifact is current."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import datasets
from pipelines.config import Paths, RunConfig
from preprocessing.artifacts import write_text_atomically

COMMAND = "longtail run"


def preprocess(
    config: RunConfig, paths: Paths, console: Console, beam_options: Sequence[str] = ()
) -> dict[str, Any]:
    """Sources to ``data/``."""
    from preprocessing.progress import Stages
    from preprocessing.run import preprocess as run

    datasets.fetch(config.data)
    return run(config, paths.data, beam_options=beam_options, stages=Stages(console))


def train(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """``data/`` to ``model/``."""
    from trainer.task import train as run

    return run(config, paths.data, paths.model, console=console)


def evaluate(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """Metrics of the model and the baselines on the full corpus."""
    from preprocessing.progress import Stages
    from serving.export import newest_version, read_description
    from trainer.evaluate import REPORT
    from trainer.evaluate import evaluate as run
    from trainer.report import render_html

    metrics = run(
        config, paths.data, paths.model, paths.evaluation, command=COMMAND, stages=Stages(console)
    )
    newest = newest_version(paths.export)
    if newest:  # the report names the index too, which the trainer knows nothing of
        write_text_atomically(
            paths.evaluation / REPORT, render_html(metrics, read_description(newest)["index"])
        )
    return metrics


def export(config: RunConfig, paths: Paths, console: Console) -> Path:
    """A new version of the SavedModel, and its index in the report."""
    from serving.export import export as run

    return run(config, paths.data, paths.model, paths.export, console=console)


def run(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """All steps in order.

    Returns:
      The metrics, and under ``seconds`` what each step took.
    """
    seconds: dict[str, float] = {}
    results: dict[str, Any] = {}
    for title, step in (
        ("1/4 preprocess", preprocess),
        ("2/4 train", train),
        ("3/4 export", export),
        ("4/4 evaluate", evaluate),
    ):
        console.rule(f"[bold]{title}", align="left")
        start = time.perf_counter()
        results[title] = step(config, paths, console)
        seconds[title] = round(time.perf_counter() - start, 1)
    return {
        "metrics": results["4/4 evaluate"],
        "version": results["3/4 export"],
        "seconds": seconds,
    }
