"""The command ``longtail``: a thin layer over the steps; errors become one line and an exit code."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import preprocessing.base.quiet  # noqa: F401  before anything that imports TensorFlow
from pipelines.commands.options import ConfigFile, Output, Overrides, console
from pipelines.tfx.cli import app as pipeline
from pipelines.vertex.cli import app as vertex
from preprocessing.base.errors import LongtailError

app = typer.Typer(
    name="longtail",
    help="Candidate retrieval that serves the long tail: preprocess, train, evaluate, export, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
ContinueFrom = Annotated[
    Path | None,
    typer.Option(help="work_dir of an earlier run, whose model learns the events since"),
]
app.add_typer(pipeline)
app.add_typer(vertex)
_ANYWHERE = ("--debug", "--quiet", "--json")
"""Options of `longtail` itself, which may also stand behind the command."""


@app.callback()
def _all(
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, only the result")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="the result as JSON on stdout, progress on stderr")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="the whole traceback of an error")] = False,
) -> None:
    Output.choose(quiet=quiet, as_json=as_json)


def _step(
    step: Callable[..., Any], config: Path, overrides: list[str] | None, **options: Any
) -> Any:
    from pipelines.config import load

    loaded, paths = load(config, overrides or ())
    return step(loaded, paths, console, **options)


def _continuing(overrides: list[str] | None, continue_from: Path | None) -> list[str]:
    more = [f"train.continue_from={json.dumps(str(continue_from))}"] if continue_from else []
    return [*(overrides or ()), *more]


@app.command("init")
def initialise(
    interactions: Annotated[
        str, typer.Option(metavar="FILE", help="the log: file, pattern or folder")
    ],
    items: Annotated[
        str | None, typer.Option(metavar="FILE", help="the catalogue, one row an item")
    ] = None,
    users: Annotated[str | None, typer.Option(metavar="FILE", help="one row a user")] = None,
    user: Annotated[str | None, typer.Option(metavar="COLUMN", help="of the log: who acts")] = None,
    item: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="of the log: what is acted upon")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="of the log: when")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="of the log: a rating")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="default: NAME.yaml in the present folder")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="ask for each role, with the guess as default")
    ] = False,
) -> None:
    """Look at the files and write a configuration that runs, with the reason of each guess."""
    from rich.text import Text

    from pipelines.init.run import Files, init

    named = {"user": user, "item": item, "timestamp": timestamp, "reward": reward}
    given = {role: column for role, column in named.items() if column}
    made = init(Files(interactions, items, users), given, out, console, interactive=interactive)
    Output.show({"config": made}, Text(f"wrote {made}, read it, then:\nlongtail run {made}"))


@app.command()
def run(
    config: ConfigFile, continue_from: ContinueFrom = None, overrides: Overrides = None
) -> None:
    """All steps in order, then the gates and the rollout; what is current is skipped."""
    from pipelines import local
    from trainer.evaluation.report.page import render_table

    result = _step(local.run, config, _continuing(overrides, continue_from))
    Output.show(result, render_table(result["metrics"]))


@app.command()
def preprocess(
    config: ConfigFile,
    overrides: Overrides = None,
    beam: Annotated[
        list[str] | None, typer.Option(help="an option of Beam's, e.g. --beam=--runner=...")
    ] = None,
) -> None:
    """Sources to examples, item table and transform graphs."""
    from pipelines import local

    Output.show(_step(local.preprocess, config, overrides, beam_options=beam or ()))


@app.command()
def inspect(config: ConfigFile, overrides: Overrides = None) -> None:
    """Show features, vocabularies, missing values, buckets, refusals and anomalies of the data."""
    from pipelines.commands.inspect import inspect as show

    Output.show(*_step(show, config, overrides))


@app.command()
def train(
    config: ConfigFile, continue_from: ContinueFrom = None, overrides: Overrides = None
) -> None:
    """Train until the validation recall no longer rises; goes on where a killed run stopped."""
    from pipelines import local

    Output.show(_step(local.train, config, _continuing(overrides, continue_from)))


@app.command()
def evaluate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Measure the model and the baselines on the full corpus, by popularity bucket."""
    from pipelines import local
    from trainer.evaluation.report.page import render_table

    metrics = _step(local.evaluate, config, overrides)
    Output.show(metrics, render_table(metrics))


@app.command()
def ablate(
    config: ConfigFile,
    arms: Annotated[
        list[str] | None, typer.Option("--arms", metavar="NAME", help="only this arm; repeatable")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seeds", min=0, help="instead of the file's; repeatable")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="default: WORK_DIR/ablation")] = None,
    overrides: Overrides = None,
) -> None:
    """Compare corrections of popularity, each tuned alike, by bucket; a second call goes on."""
    from pipelines.ablation.report import render_table
    from pipelines.ablation.run import ablate as compare

    given = {"--arms": arms, "--seeds": seeds, "--out": out and [out], "--set": overrides}
    words = [
        str(w) for name, values in given.items() for value in values or () for w in (name, value)
    ]
    command = shlex.join(["longtail", "ablate", str(config), *words])
    options = {"arms": arms or (), "seeds": seeds or (), "out": out, "command": command}
    compared = _step(compare, config, overrides, **options)
    Output.show(compared, render_table(compared))


@app.command()
def export(config: ConfigFile, overrides: Overrides = None) -> None:
    """Write a new version of the SavedModel, past the gates and without the label."""
    from pipelines import local

    version = _step(local.export, config, overrides)
    Output.show({"version": version}, f"exported {version}")


@app.command()
def rollback(
    config: ConfigFile,
    to: Annotated[
        int | None, typer.Option(min=1, help="this blessed version; default: the one before")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Move the label of the served version back; servers follow within seconds."""
    from pipelines.rollout.rollout import roll_back

    Output.show({"version": _step(roll_back, config, overrides, to=to)})


@app.command()
def serve(
    export_dir: Annotated[Path, typer.Argument(help="folder with versions, e.g. runs/x/export/x")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port, 0 for a free one", min=0, max=65535)] = 8501,
    model: Annotated[str | None, typer.Option(help="model name, default: the folder's")] = None,
    queue: Annotated[int, typer.Option(help="predictions that wait, then 503", min=0)] = 64,
    max_body_bytes: Annotated[int, typer.Option(help="larger ones get 413", min=1)] = 8 * 2**20,
) -> None:
    """Answer TF Serving's REST API on this machine (all limits: python -m serving.server --help)."""
    from serving.server.limits import Limits
    from serving.server.run import serve as start

    limits = Limits(queue=queue, max_body_bytes=max_body_bytes)
    start(export_dir, host=host, port=port, model_name=model, limits=limits)


@app.command()
def recommend(
    config: ConfigFile,
    user: Annotated[str, typer.Option(help="the user's key")],
    history: Annotated[str, typer.Option(help="item keys, oldest first, separated by commas")] = "",
    feature: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="another query feature")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many items")] = 10,
    url: Annotated[
        str | None, typer.Option(help="ask this server instead of the newest export")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Items for one user, with their titles."""
    from pipelines.commands.recommend import recommend as ask
    from pipelines.commands.recommend import table

    given = [pair.partition("=")[::2] for pair in feature or []]
    items = [item for item in history.split(",") if item]
    answers = _step(
        ask, config, overrides, user=user, history=items, features=dict(given), k=k, url=url
    )
    Output.show({"user": user, "items": answers}, table(user, answers))


@app.command()
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="a sample of the households, in three minutes")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """A year of real groceries: data, model, baselines, server and three households' recommendations."""
    from pipelines.commands.demo import demo as show

    Output.show(show(console, quick=quick, overrides=overrides or []))


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
      0 done, 2 bad usage, configuration or input, 1 failure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    flags = [each for each in _ANYWHERE if each in given]
    given = [*flags, *(each for each in given if each not in _ANYWHERE)]
    try:
        result = app(given, standalone_mode=False)
    except LongtailError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        return 1
    except KeyboardInterrupt:
        print(
            "error: interrupted; finished steps are kept, run the command again to go on",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if debug:
            raise
        return _unexpected(error)
    return result if isinstance(result, int) else 0


def _unexpected(error: Exception) -> int:
    if hasattr(error, "format_message") and hasattr(
        error, "exit_code"
    ):  # bad usage, as click reports it
        print(f"error: {error.format_message()}; see longtail --help", file=sys.stderr)
        return 2
    print(
        f"error: {type(error).__name__}: {' '.join(str(error).split())[:500]}; --debug shows where",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
