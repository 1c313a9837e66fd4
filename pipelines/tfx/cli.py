"""``longtail pipeline ...``: thin commands over ``pipelines.tfx``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipelines.commands.options import ConfigFile, Overrides, console
from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import require

app = typer.Typer(name="pipeline", help="The steps as a TFX pipeline.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``run`` a command of its own while it is the only one."""


@app.command()
def run(
    config: ConfigFile,
    runner: Annotated[
        Literal["local", "vertex"],
        typer.Option(help="this machine with metadata in SQLite, or Vertex AI Pipelines"),
    ] = "local",
    submit: Annotated[
        bool, typer.Option("--submit", help="vertex: not only write the pipeline file, send it")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Preprocess, check the data, train, evaluate, gate, try to serve, push; cached where it can be."""
    from pipelines.config import load

    here = runner == "local"
    loaded, paths = load(config, overrides or (), serves_here=here)
    if submit and runner != "vertex":
        raise LongtailError(f"--submit expected --runner vertex, received --runner {runner}")
    require("tfx", "tfx")
    if here:
        from pipelines.tfx.local import run as run_here

        run_here(loaded, paths, console)
        return
    from pipelines.tfx import vertex

    cloud = vertex.cloud(loaded) if submit else None
    spec = vertex.compile_pipeline(loaded, paths, console)
    if cloud is not None:
        vertex.submit(loaded, spec, cloud, console)
