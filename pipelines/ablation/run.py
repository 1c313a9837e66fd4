"""``longtail ablate``: arms tuned alike on validation, trained with every seed, ranked on test once.

An arm's temperature, then each key of its `tune`, is chosen on validation with the first seed; its
beta, the weight of log P when serving, on validation over all seeds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import local
from pipelines.ablation.arms import check, chosen_arms
from pipelines.ablation.trainings_bar import TrainingsBar
from pipelines.config import Paths, RunConfig
from preprocessing.base.artifacts import library_versions
from preprocessing.base.errors import LongtailFailure
from preprocessing.base.optional import require
from preprocessing.base.progress import Stages
from preprocessing.base.sole_writer import sole_writer

Json = dict[str, Any]


def ablate(
    config: RunConfig,
    paths: Paths,
    console: Console,
    *,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    out: Path | None = None,
    command: str = "longtail ablate",
) -> Json:
    """Compares the arms; what an earlier call has trained is not trained again.

    Args:
      config: the file.
      paths: of the run; data that are not current are made first.
      console: for progress.
      arms: only these, default: all.
      seeds: instead of those of the file.
      out: for ablation.md, ablation.json, frontier.svg and runs/; default: WORK_DIR/ablation.
      command: what was run, for the report.

    Returns:
      The content of ablation.json.

    Raises:
      LongtailError: an arm is unknown, a change that it makes is impossible, or another call is
        writing to `out`.
      LongtailFailure: every arm failed to train, or the disk is full.
    """
    settings = config.ablate
    chosen = chosen_arms(config, settings, arms)
    wanted = list(dict.fromkeys(seeds)) or settings.seeds
    for name, arm in chosen.items():
        check(config, name, arm, settings.temperatures, wanted[0])
    require("matplotlib")
    from pipelines.ablation.report import require_ours, write

    out = out or paths.ablation
    require_ours(out)  # hours before they are written
    data = local.preprocess(config, paths, console)
    from pipelines.ablation.comparison import Comparison
    from pipelines.ablation.runs import Runs

    with sole_writer(out):
        runs = Runs(config, paths.data, data["fingerprint"], out, settings.betas)
        with Stages(console).stage("baselines"):
            baselines = runs.baselines()
        searches = {n: arm.searched(settings.temperatures) for n, arm in chosen.items()}
        total = sum(
            sum(len(values) for values in search.values()) + len(wanted) - 1
            for search in searches.values()
        )
        found: Json = {}
        with TrainingsBar(console, total, runs.seconds) as board:
            for name, arm in chosen.items():
                comparison = Comparison(config, runs, board, name, wanted)
                found[name] = comparison.run(arm, settings.temperatures)
        runs.forget_all()
    results: Json = {
        "name": config.name,
        "k": config.evaluate.ks[-1],
        "seeds": wanted,
        "betas": settings.betas,
        "arms": found,
        "baselines": baselines,
        "made": {
            "command": command,
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "cores": os.cpu_count(),
            "seconds": round(sum(runs.seconds.values())),
            "libraries": library_versions(),
            "data": data["fingerprint"],
            "config": config.model_dump(mode="json", exclude={"work_dir", "data"}),
        },
    }
    write(results, out)
    console.print(f"  written: {out}/ablation.md, ablation.json, frontier.svg", highlight=False)
    if all("failed" in arm for arm in found.values()):
        raise LongtailFailure(
            "every arm failed: "
            + "; ".join(f"{name}: {arm['failed']}" for name, arm in found.items())
        )
    return results
