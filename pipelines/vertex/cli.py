"""``longtail vertex ...``: thin commands over ``pipelines.vertex``."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import ConfigFile, Overrides, console

app = typer.Typer(
    name="vertex", help="Run a step on Google Cloud's Vertex AI.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keeps ``train`` a command of its own while it is the only one."""


@app.command()
def train(
    config: ConfigFile,
    package: Annotated[
        str | None,
        typer.Option(help="sdist or wheel, here or at gs://, default: built from the source tree"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the request and do nothing")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train in a custom job; work_dir lies in a bucket and holds the data."""
    from pipelines.vertex.submit import train as start

    start(config, overrides or (), console, package=package, dry_run=dry_run)
