"""The demo: a year of real groceries from raw files to answers over HTTP."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines import config as configuration
from pipelines import local
from pipelines.commands import embedded, shop
from pipelines.config import Paths

# A sample, and one of each thing: a final fit would preprocess, train and export a second time.
QUICK = (
    "name=complete_journey_quick",
    "work_dir=runs/complete_journey_quick",
    "preprocess.sample_users=0.15",
    "train.max_epochs=2",
    "evaluate.als.factors=[32]",
    "evaluate.als.regularization=[1.0]",
    "evaluate.als.alpha=[3.0]",
    "evaluate.als.popularity_weight=[0.05]",
    "evaluate.neighbours.weighting=[tfidf]",
    "evaluate.neighbours.neighbours=[50]",
    "train.final_fit=none",
)
_HOUSEHOLDS = 3
_SHOWN = 8


def config_path(name: str) -> Path:
    """A configuration of the repository, also where Longtail is installed as a package."""
    beside = Path(__file__).resolve().parents[2] / "configs" / f"{name}.yaml"
    return (
        beside
        if beside.exists()
        else Path(str(resources.files("pipelines.configs") / f"{name}.yaml"))
    )


def demo(console: Console, *, quick: bool, overrides: list[str]) -> dict[str, Any]:
    """Run every step on Complete Journey, print the results and ask the server for three households."""
    from trainer.evaluation.report.page import render_table

    start = time.perf_counter()
    changes = [*(QUICK if quick else ()), *overrides]
    config, paths = configuration.load(config_path("complete_journey"), changes)
    result = local.run(config, paths, console)
    console.rule("[bold]results", align="left")
    console.print(render_table(result["metrics"]))
    console.rule("[bold]three households, answered over HTTP", align="left")
    show_households(paths, console)
    console.rule("[bold]written", align="left")
    for title, path in (
        ("data", paths.data),
        ("model and TensorBoard logs", paths.model),
        ("report", paths.evaluation / "report.html"),
        ("SavedModel", result["version"]),
    ):
        console.print(f"  {title:28} {path}", highlight=False)
    console.print(f"  serve it: longtail serve {paths.export}", highlight=False)
    spent = ", ".join(
        f"{name.split()[1]} {seconds:.0f} s" for name, seconds in result["seconds"].items()
    )
    console.print(f"  took {time.perf_counter() - start:.0f} s: {spent}", highlight=False)
    return result


def show_households(paths: Paths, console: Console) -> None:
    """What some households bought last and what the server recommends of all that they never bought."""
    known = zip(shop.sample_queries(paths.asked), shop.sample_seen(paths.asked), strict=True)
    chosen = [(q, seen) for q, seen in known if len(set(q["history"])) >= _SHOWN][:_HOUSEHOLDS]
    names = shop.titles(paths.data)
    with embedded.server(paths.export, console) as client:
        answers = client.recommend([{**q, "exclude": seen} for q, seen in chosen], k=_SHOWN)
    for (query, seen), answer in zip(chosen, answers, strict=True):
        table = Table(title=f"household {next(iter(query.values()))[0]}", title_justify="left")
        table.add_column("bought last", ratio=1)
        table.add_column(f"recommended, not among the {len(seen)} products it had", ratio=1)
        bought = shop.recent(query["history"], _SHOWN)
        for had, (item, score) in zip(bought, answer, strict=False):
            offered = f"{names.get(item, item)} [dim]{score:.2f}[/dim]"
            table.add_row(names.get(had, had), offered)
        console.print(table)
