"""The steps on this machine, each skipped where its artifact is current."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import datasets
from pipelines.config import Paths, RunConfig
from preprocessing.base.artifacts import read_manifest
from preprocessing.base.errors import LongtailError

COMMAND = "longtail run"


def preprocess(
    config: RunConfig, paths: Paths, console: Console, beam_options: Sequence[str] = ()
) -> dict[str, Any]:
    """Sources to ``data/``."""
    from preprocessing.base.progress import Stages
    from preprocessing.run import preprocess as run

    datasets.fetch(config.data)
    return run(config, paths.data, beam_options=beam_options, stages=Stages(console))


def preprocess_and_check(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """The same, and what looks odd in the examples is told before anything is trained on them."""
    from pipelines.commands.inspect import check, tell

    manifest = preprocess(config, paths, console)
    tell(check(config, paths, console), console)
    return manifest


def train(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """``data/`` to ``model/``."""
    from trainer.task import train as run

    return run(config, paths.data, paths.model, console=console)


def evaluate(
    config: RunConfig, paths: Paths, console: Console, version: Path | None = None
) -> dict[str, Any]:
    """Metrics of the model and the baselines on the full corpus.

    Args:
      config: of the run.
      paths: of the run.
      console: for progress.
      version: whose index the report names; default: the newest.
    """
    from pipelines.rollout.page import write_page
    from preprocessing.base.progress import Stages
    from serving.export.run import newest_version
    from trainer.evaluate import evaluate as run

    metrics = run(
        config, paths.data, paths.model, paths.evaluation, command=COMMAND, stages=Stages(console)
    )
    write_page(paths, metrics, version or newest_version(paths.export))
    return metrics


def export(config: RunConfig, paths: Paths, console: Console) -> Path:
    """A new version of the SavedModel, straight to the served ones."""
    from serving.export.run import export as run

    return run(config, paths.data, paths.model, paths.export, console=console)


def candidate(config: RunConfig, paths: Paths, console: Console) -> Path:
    """A version of the SavedModel where no server looks; the served one that was made of the same."""
    from pipelines.rollout.final_fit import wanted
    from pipelines.rollout.rollout import served_version
    from serving.export.run import export as run
    from serving.export.run import export_fingerprint

    made_from = [
        (read_manifest(path) or {}).get("fingerprint") for path in (paths.data, paths.model)
    ]
    evaluated = export_fingerprint(config, *map(str, made_from))
    served = served_version(paths.export, wanted(config, evaluated))
    if served:
        console.print(f"  export is current: {served}", highlight=False)
        return served
    return run(config, paths.data, paths.model, paths.candidate, console=console)


def run(config: RunConfig, paths: Paths, console: Console) -> dict[str, Any]:
    """All steps in order; only what the gates let through is served.

    Returns:
      The metrics, the folder of the served version, and under ``seconds`` what each step took.

    Raises:
      LongtailError: the input of a step is bad, or beside the served versions lies a file that is not ours.
      LongtailFailure: a gate refused the model; what was served is served on.
    """
    from pipelines.rollout.rollout import roll_out
    from serving.export.labels import require_ours

    _check_continuation(config)
    require_ours(paths.export)  # hours before the label moves
    seconds: dict[str, float] = {}

    def step(title: str, do: Callable[..., Any], *more: Any) -> Any:
        console.rule(f"[bold]{title}", align="left")
        start = time.perf_counter()
        result = do(config, paths, *more, console)
        seconds[title] = round(time.perf_counter() - start, 1)
        return result

    step("1/5 preprocess", preprocess_and_check)
    step("2/5 train", train)
    version = step("3/5 export", candidate)
    metrics = step("4/5 evaluate", lambda c, p, out: evaluate(c, p, out, version))
    version = step("5/5 rollout", roll_out, version, metrics)
    return {"metrics": metrics, "version": version, "seconds": seconds}


def _check_continuation(config: RunConfig) -> None:
    """Before hours of work: there is a run to continue, and one folder for the versions of all days."""
    if config.train.continue_from is None:
        return
    from trainer.loop.continuation import Previous

    Previous.open(Path(config.train.continue_from)).require_until()
    if config.rollout.export_dir is None:
        raise LongtailError(
            "rollout.export_dir is missing, which train.continue_from needs: name the folder of models that "
            "servers watch, the same for every day, e.g. runs/export"
        )
