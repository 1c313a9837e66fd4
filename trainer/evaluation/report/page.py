"""The pages that people read: report.html, and the table that the command line prints.

Both are functions of the content of metrics.json alone (and of an index's figures, where there are
any), so a report can be written again at any time, without the model and the data:

    python -m trainer.evaluation.report.page EVALUATION_DIR [--index FIGURES.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from preprocessing.base.artifacts import write_text_atomically
from preprocessing.base.errors import LongtailError
from preprocessing.base.optional import require
from trainer.evaluation.buckets import BUCKETS, GROUPS, MODES
from trainer.evaluation.report import plots, tables
from trainer.evaluation.report.plots import COLOURS, LABELS, present
from trainer.evaluation.report.tables import formatted, signed

Json = dict[str, Any]
PLOTS = "plots.json"
"""In an evaluation: the plots of the report by name, drawn once and not at every change of the page."""


def render_html(
    metrics: Json,
    index: Mapping[str, Any] | None = None,
    *,
    anomalies: Sequence[Mapping[str, str]] | None = None,
    checks: Sequence[Mapping[str, Any]] | None = None,
    served: Mapping[str, Any] | None = None,
    drawn: Mapping[str, str] | None = None,
) -> str:
    """The report as one self-contained page.

    Args:
      metrics: content of metrics.json.
      index: figures of the index of an export (recall against exact search, latency ...), shown as
        given.
      anomalies: of the examples (`data_checks.check_data`); None where they were not checked.
      checks: of the gates before a rollout (name, expected, received, passed); None where the model
        was not judged.
      served: what the served weights learned beside the evaluated ones; None where they are the same.
      drawn: what `draw` gave for these metrics; None: it is drawn now, which takes seconds.

    Raises:
      LongtailError: the extra `evaluation` is not installed.
    """
    jinja2, markup = require("jinja2"), require("markupsafe")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer.evaluation.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    test, made = metrics["splits"]["test"], metrics.get("made", {})
    drawn = draw(metrics) if drawn is None else drawn
    html: str = environment.get_template("report.html.j2").render(
        name=metrics["name"],
        colours=COLOURS,
        made={"at": "", "command": "", "fingerprint": "", **made},
        test_users=test["users"],
        users_in_split=test.get("users_in_split", test["users"]),
        summary=summary(metrics),
        plots={name: markup.Markup(svg) for name, svg in drawn.items()},
        has_history="history" in drawn,
        anomalies=anomalies,
        result_tables=[tables.result_table(metrics, "test", mode) for mode in MODES],
        validation_tables=[tables.result_table(metrics, "validation", mode) for mode in MODES],
        detail_tables=[tables.detail_table(metrics, mode) for mode in MODES],
        difference_tables=[
            tables.difference_table(metrics, mode) for mode in MODES if test["model_minus"]
        ],
        bucket_table=tables.bucket_table(metrics),
        exposure_table=tables.exposure_table(test["rankers"]),
        tuning_tables=tables.tuning_tables(metrics["tuning"]),
        index_table=tables.flat_table("Index against exact search.", index) if index else None,
        served_table=tables.flat_table(
            "Every figure of this page is of the evaluated model.", served
        )
        if served
        else None,
        gates_table=tables.gates_table(checks) if checks else None,
        blessed=all(check["passed"] for check in checks or ()),
        data_tables=tables.data_tables(metrics.get("data") or {}),
        seconds_table=tables.flat_table(
            "Seconds of this evaluation by stage.", metrics.get("seconds") or {}
        ),
        version_table=tables.flat_table("Libraries.", made.get("libraries") or {}),
        config=json.dumps(made.get("config", {}), indent=2),
    )
    return html


def draw(metrics: Json) -> dict[str, str]:
    """Every plot of the report by name, as SVG for the inside of an HTML page."""
    k, rankings = metrics["ks"][-1], metrics["splits"]["test"]["rankers"]
    drawn = {f"bars-{mode}": plots.recall_bars(rankings, mode, k) for mode in MODES}
    drawn.update({f"frontier-{mode}": plots.frontier(rankings, mode, k) for mode in MODES})
    drawn["long-tail"] = plots.long_tail(metrics["catalogue"], metrics["buckets"])
    drawn.update({f"exposure-{mode}": plots.exposure_curve(rankings, mode) for mode in MODES})
    if history := metrics.get("history"):
        monitor = (
            metrics.get("made", {})
            .get("config", {})
            .get("train", {})
            .get("monitor", f"recall@{k}/new")
        )
        drawn["history"] = plots.training_history(history, monitor)
    return drawn


def read_plots(directory: Path) -> dict[str, str] | None:
    """The plots of an evaluation; None where it has none."""
    path = directory / PLOTS
    found: dict[str, str] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def render_table(metrics: Json, split: str = "test") -> Table:
    """Recall at the largest k of every ranker and bucket, for a terminal of 100 columns."""
    k = metrics["ks"][-1]
    table = Table(
        title=f"{metrics['name']}: recall@{k} on {split}",
        caption="± one standard error over users; bold: ahead by more than two of the paired difference",
    )
    table.add_column("")
    for name in ("overall", "head", "torso", "tail", "unseen", "coverage"):
        table.add_column(name, justify="right")
    rankings = metrics["splits"][split]["rankers"]
    for mode in MODES:
        best = metrics["splits"][split]["clearly_best"][mode]
        table.add_section()
        for name in present(rankings, mode):
            cells = rankings[name][mode]
            mean, error = (cells["overall"][f"recall@{k}{end}"] for end in ("", "/se"))
            overall = f"{formatted(mean)} ± {formatted(error)}"
            parts = [formatted(cells[bucket][f"recall@{k}"]) for bucket in BUCKETS]
            shown = [
                f"[bold]{text}[/bold]" if best[group] == name else text
                for group, text in zip(GROUPS, [overall, *parts], strict=True)
            ]
            coverage = formatted(cells["exposure"]["coverage"])
            table.add_row(f"{mode}  {LABELS[name]}", *shown, coverage)
    return table


def summary(metrics: Json) -> list[str]:
    """The result in a few sentences, with what is and what is not told apart by the test users."""
    k, test = metrics["ks"][-1], metrics["splits"]["test"]
    cells = test["rankers"]["model"]["new"]
    if not cells["overall"]["users"]:
        return ["No user of the test split has a new item that training knows: nothing to report."]
    found = {
        group: formatted(cells[group][f"recall@{k}"])
        for group in ("overall", "head", "torso", "tail")
    }
    error = formatted(cells["overall"][f"recall@{k}/se"])
    users = f"{cells['overall']['users']:,} users"
    if test.get("users_in_split", 0) > test["users"]:
        users += f" (of a random sample of {test['users']:,} of {test['users_in_split']:,})"
    lines = []
    lines.append(
        f"New items: recall@{k} {found['overall']} ± {error} over {users}; "
        f"head {found['head']}, torso {found['torso']}, tail {found['tail']}."
    )
    for name in present(test["model_minus"], "new"):
        told = [
            _verdict(group, test["model_minus"][name]["new"][group])
            for group in ("overall", "tail")
        ]
        lines.append(f"Against {LABELS[name]}: {'; '.join(told)}.")
    everything = {
        name: one["all"]["overall"][f"recall@{k}"] or 0.0 for name, one in test["rankers"].items()
    }
    ours = everything.pop("model")
    if everything:
        best = max(everything, key=everything.__getitem__)
        lines.append(
            f"All items, repeats included: recall@{k} {formatted(ours)}; the "
            f"best baseline is {LABELS[best]} with {formatted(everything[best])}."
        )
    covered, tail = cells["exposure"]["coverage"] or 0.0, cells["exposure"]["shown"]["tail"]
    lines.append(
        f"The lists of {k} new items cover {100 * covered:.1f} % of the catalogue; "
        f"{100 * tail:.1f} % of the places go to the tail."
    )
    return lines


def _verdict(group: str, difference: Json) -> str:
    value, error = difference["difference"], difference["se"]
    if value is None or error is None:
        return f"{group} not measurable"
    told = "better" if value > 0 else "worse"
    if not tables.beyond_chance(difference):
        told = "not told apart"
    return f"{group} {told} ({signed(value)} ± {formatted(error)})"


def main(arguments: list[str] | None = None) -> int:
    """Writes report.html again from metrics.json; for figures of an index that came later."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluation.report.page", description=main.__doc__
    )
    parser.add_argument("directory", type=Path, help="an evaluation directory")
    parser.add_argument("--index", type=Path, help="JSON with the figures of an index")
    given = parser.parse_args(arguments)
    try:
        metrics = json.loads((given.directory / "metrics.json").read_text())
        index = json.loads(given.index.read_text()) if given.index else None
        write_text_atomically(given.directory / "report.html", render_html(metrics, index))
    except (OSError, json.JSONDecodeError) as error:
        print(
            f"error: expected metrics.json of a finished evaluation, and JSON of --index: {error}",
            file=sys.stderr,
        )
        return 2
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
