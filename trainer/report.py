"""The pages that people read: report.html, and the table that the command line prints.

Both are functions of the content of metrics.json alone (and of an index's figures, where there are any), so a
report can be written again at any time, without the model and the data:

    python -m trainer.report EVALUATION_DIR [--index FIGURES.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from preprocessing.artifacts import write_text_atomically
from preprocessing.errors import LongtailError
from trainer import plots
from trainer.buckets import BUCKETS, GROUPS, MODES
from trainer.optional import require
from trainer.plots import LABELS, RANKERS

Json = dict[str, Any]


def render_html(metrics: Json, index: Mapping[str, Any] | None = None) -> str:
    """The report as one self-contained page.

    Args:
      metrics: content of metrics.json.
      index: figures of the index of an export (recall against exact search, latency ...), shown as given.

    Raises:
      LongtailError: the extra `evaluation` is not installed.
    """
    jinja2, markup = require("jinja2"), require("markupsafe")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    k, test = metrics["ks"][-1], metrics["splits"]["test"]
    rankings, history = test["rankers"], metrics.get("history") or []
    made = metrics.get("made", {})
    drawn = {f"bars-{mode}": plots.recall_bars(rankings, mode, k) for mode in MODES}
    drawn.update({f"frontier-{mode}": plots.frontier(rankings, mode, k) for mode in MODES})
    drawn["long-tail"] = plots.long_tail(metrics["catalogue"], metrics["buckets"])
    drawn.update({f"exposure-{mode}": plots.exposure_curve(rankings, mode) for mode in MODES})
    if history:
        monitor = made.get("config", {}).get("train", {}).get("monitor")
        drawn["history"] = plots.training_history(history, monitor)
    html: str = environment.get_template("report.html.j2").render(
        name=metrics["name"],
        made={"at": "", "command": "", "fingerprint": "", **made},
        test_users=test["users"],
        summary=summary(metrics),
        plots={name: markup.Markup(svg) for name, svg in drawn.items()},
        has_history=bool(history),
        result_tables=[_result_table(metrics, "test", mode) for mode in MODES],
        validation_tables=[_result_table(metrics, "validation", mode) for mode in MODES],
        detail_tables=[_detail_table(metrics, mode) for mode in MODES],
        difference_tables=[_difference_table(metrics, mode) for mode in MODES if test["model_minus"]],
        bucket_table=_bucket_table(metrics),
        exposure_table=_exposure_table(rankings),
        als_table=_als_table(metrics["als"]),
        index_table=_flat_table("Index against exact search.", index) if index else None,
        data_tables=_data_tables(metrics.get("data") or {}),
        seconds_table=_flat_table("Seconds of this evaluation by stage.", metrics.get("seconds") or {}),
        version_table=_flat_table("Libraries.", made.get("libraries") or {}),
        config=json.dumps(made.get("config", {}), indent=2),
    )
    return html


def render_table(metrics: Json, split: str = "test") -> Table:
    """Recall at the largest k of every ranker and bucket, for a terminal of 100 columns."""
    k = metrics["ks"][-1]
    table = Table(title=f"{metrics['name']}: recall@{k} on {split}", caption="± one standard error over users")
    table.add_column("")
    for name in ("overall", "head", "torso", "tail", "unseen", "coverage"):
        table.add_column(name, justify="right")
    rankings = metrics["splits"][split]["rankers"]
    for mode in MODES:
        table.add_section()
        for name in _rankers(rankings, mode):
            cells = rankings[name][mode]
            overall = f"{_text(cells['overall'][f'recall@{k}'])} ± {_text(cells['overall'][f'recall@{k}/se'])}"
            parts = [_text(cells[bucket][f"recall@{k}"]) for bucket in BUCKETS]
            style = "bold" if name == "model" else None
            table.add_row(f"{mode}  {LABELS[name]}", overall, *parts, _text(cells["exposure"]["coverage"]), style=style)
    return table


def summary(metrics: Json) -> list[str]:
    """The result in a few sentences, with what is and what is not told apart by the test users."""
    k, test = metrics["ks"][-1], metrics["splits"]["test"]
    cells = test["rankers"]["model"]["new"]
    if not cells["overall"]["users"]:
        return ["No user of the test split has a new item that training knows: there is nothing to report."]
    found = {group: _text(cells[group][f"recall@{k}"]) for group in ("overall", "head", "torso", "tail")}
    lines = []
    lines.append(
        f"New items: recall@{k} {found['overall']} ± {_text(cells['overall'][f'recall@{k}/se'])} over "
        f"{cells['overall']['users']:,} users; head {found['head']}, torso {found['torso']}, tail {found['tail']}."
    )
    for name in _rankers(test["model_minus"], "new"):
        told = [_verdict(group, test["model_minus"][name]["new"][group]) for group in ("overall", "tail")]
        lines.append(f"Against {LABELS[name]}: {'; '.join(told)}.")
    everything = {name: one["all"]["overall"][f"recall@{k}"] or 0.0 for name, one in test["rankers"].items()}
    ours = everything.pop("model")
    if everything:
        best = max(everything, key=everything.__getitem__)
        lines.append(
            f"All items, repeats included: recall@{k} {_text(ours)}; the best baseline is {LABELS[best]} "
            f"with {_text(everything[best])}."
        )
    shown = cells["exposure"]
    lines.append(
        f"The lists of {k} new items cover {100 * (shown['coverage'] or 0):.1f} % of the catalogue; "
        f"{100 * shown['shown']['tail']:.1f} % of the places go to the tail."
    )
    return lines


def _verdict(group: str, difference: Json) -> str:
    value, error = difference["difference"], difference["se"]
    if value is None or error is None:
        return f"{group} not measurable"
    told = "better" if value > 0 else "worse"
    if abs(value) <= 1.96 * error or value == 0:
        told = "not told apart"
    return f"{group} {told} ({_signed(value)} ± {error:.4f})"


def _result_table(metrics: Json, split: str, mode: str) -> Json:
    """Rows: rankers; columns: recall of each group, and other figures overall; all at the largest k."""
    rankings, k = metrics["splits"][split]["rankers"], metrics["ks"][-1]
    rows = []
    for name in _rankers(rankings, mode):
        cells = rankings[name][mode]
        recall = [(cells[g][f"recall@{k}"], cells[g][f"recall@{k}/se"]) for g in GROUPS]
        other = [cells["overall"][f"{metric}@{k}"] for metric in ("ndcg", "mrr")]
        rows.append([LABELS[name], *recall, *other])
    for unit in ("users", "targets"):
        rows.append([unit, *(rankings["model"][mode][g][unit] for g in GROUPS), "", ""])
    table = _table(f"Mode {mode}, {split} split: recall@{k}", ["", *GROUPS, f"NDCG@{k}", f"MRR@{k}"], rows)
    table["rows"][0]["chosen"] = True
    return table


def _detail_table(metrics: Json, mode: str) -> Json:
    """Recall and NDCG of every ranker, group and k on test."""
    rankings = metrics["splits"]["test"]["rankers"]
    rows = [
        [f"{LABELS[name]}, {metric}@{k}", *(rankings[name][mode][g][f"{metric}@{k}"] for g in GROUPS)]
        for metric in ("recall", "ndcg")
        for name in _rankers(rankings, mode)
        for k in metrics["ks"]
    ]
    return _table(f"Mode {mode}, test split.", ["", *GROUPS], rows)


def _difference_table(metrics: Json, mode: str) -> Json:
    k, versus = metrics["ks"][-1], metrics["splits"]["test"]["model_minus"]
    rows = []
    for name in _rankers(versus, mode):
        cells = [versus[name][mode][g] for g in GROUPS]
        row = [(None if c["difference"] is None else _signed(c["difference"]), c["se"]) for c in cells]
        rows.append([f"model − {LABELS[name]}", *row])
    caption = f"Mode {mode}, test split: difference of recall@{k}, user by user; beyond two errors it is hardly chance."
    return _table(caption, ["", *GROUPS], rows)


def _bucket_table(metrics: Json) -> Json:
    rows = [[name, b["items"], b["events"], b["share_of_events"]] for name, b in metrics["buckets"].items()]
    return _table("Buckets of the catalogue.", ["", "items", "training events", "share"], rows)


def _exposure_table(rankings: Json) -> Json:
    keys = ("coverage", "gini", "mean_popularity")
    rows = []
    for mode in MODES:
        for name in _rankers(rankings, mode):
            shown = rankings[name][mode]["exposure"]
            rows.append([f"{mode}, {LABELS[name]}", *(shown[key] for key in keys), shown["shown"]["tail"]])
    caption = (
        "Coverage: share of the catalogue shown to anybody. Gini: 0 even, 1 everything to one item. "
        "Popularity: mean training events of what is shown."
    )
    return _table(caption, ["", "coverage", "Gini", "popularity", "places in the tail"], rows)


def _als_table(als: Json) -> Json | None:
    if not als["grid"]:
        return None
    keys = ("factors", "regularization", "alpha")
    table = _table(
        f"Every point was fitted on train and judged by {als['monitor']} on validation; bold is the chosen one.",
        [*keys, "recall", "seconds"],
        [[*(f"{p[key]:g}" for key in keys), (p["recall"], p["se"]), f"{p['seconds']:.1f}"] for p in als["grid"]],
    )
    for row, point in zip(table["rows"], als["grid"], strict=True):
        row["chosen"] = point["chosen"]
    return {**table, "numbers_first": True}


def _data_tables(data: Json) -> list[Json]:
    """Whatever the manifest of the data holds: one table a nested block, one for the single values."""
    single = {key: value for key, value in data.items() if not isinstance(value, (dict, list))}
    tables = [_flat_table("Preprocessing.", single)] if single else []
    for key, value in data.items():
        if isinstance(value, dict) and key == "rejected" and not value:
            tables.append(_flat_table("Rejected rows by reason.", {"none": 0}))
        elif isinstance(value, dict) and value:
            named = {"rejected": "Rejected rows by reason."}.get(key, f"{key.replace('_', ' ').capitalize()}.")
            tables.append(_flat_table(named, value))
    return tables


def _flat_table(caption: str, values: Mapping[str, Any]) -> Json:
    return _table(caption, ["", ""], [[key.replace("_", " "), value] for key, value in _flat(values)])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} / ")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _table(caption: str, columns: list[str], rows: list[list[Any]]) -> Json:
    """What the template's macro takes; a cell may be a pair (value, error)."""
    made = [
        {"cells": [_cell(*value) if isinstance(value, tuple) else _cell(value) for value in row], "chosen": False}
        for row in rows
    ]
    return {"caption": caption, "columns": columns, "rows": made, "numbers_first": False}


def _cell(value: Any, error: float | None = None) -> dict[str, str]:
    return {"text": _text(value), "error": "" if value is None or error is None else _text(error)}


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _rankers(rankings: Mapping[str, Any], mode: str) -> list[str]:
    return [name for name in RANKERS if mode in rankings.get(name, {})]


def main(arguments: list[str] | None = None) -> int:
    """Writes report.html again from metrics.json; for figures of an index that came later."""
    parser = argparse.ArgumentParser(prog="python -m trainer.report", description=main.__doc__)
    parser.add_argument("directory", type=Path, help="an evaluation directory")
    parser.add_argument("--index", type=Path, help="JSON with the figures of an index")
    given = parser.parse_args(arguments)
    try:
        metrics = json.loads((given.directory / "metrics.json").read_text())
        index = json.loads(given.index.read_text()) if given.index else None
        write_text_atomically(given.directory / "report.html", render_html(metrics, index))
    except (OSError, json.JSONDecodeError) as error:
        print(f"error: expected metrics.json of a finished evaluation, and JSON of --index: {error}", file=sys.stderr)
        return 2
    except LongtailError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
