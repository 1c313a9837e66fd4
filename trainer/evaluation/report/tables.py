"""The tables of the report: metrics.json turned into rows of formatted cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.evaluation.buckets import GROUPS, MODES
from trainer.evaluation.report.plots import LABELS, present

Json = dict[str, Any]


def result_table(metrics: Json, split: str, mode: str) -> Json:
    """Recall of each ranker and group at the largest k, and NDCG and MRR overall."""
    rankings, k = metrics["splits"][split]["rankers"], metrics["ks"][-1]
    rows, best = [], metrics["splits"][split]["clearly_best"][mode]
    for name in present(rankings, mode):
        cells = rankings[name][mode]
        recall = [(cells[g][f"recall@{k}"], cells[g][f"recall@{k}/se"]) for g in GROUPS]
        other = [cells["overall"][f"{metric}@{k}"] for metric in ("ndcg", "mrr")]
        rows.append([LABELS[name], *recall, *other])
    for unit in ("users", "targets"):
        rows.append([unit, *(rankings["model"][mode][g][unit] for g in GROUPS), "", ""])
    table = _table(
        f"Mode {mode}, {split} split: recall@{k}; NDCG and MRR overall. Bold: ahead of every other by "
        "more than two standard errors of the difference, user by user.",
        ["", *GROUPS, "NDCG", "MRR"],
        rows,
    )
    for name, row in zip(present(rankings, mode), table["rows"], strict=False):
        row["mine"] = name == "model"
        for group, cell in zip(GROUPS, row["cells"][1:], strict=False):
            cell["bold"] = best[group] == name
    return table


def detail_table(metrics: Json, mode: str) -> Json:
    """Recall and NDCG of every ranker, group and k on test."""
    rankings = metrics["splits"]["test"]["rankers"]
    rows = [
        [
            f"{LABELS[name]}, {metric}@{k}",
            *(rankings[name][mode][g][f"{metric}@{k}"] for g in GROUPS),
        ]
        for metric in ("recall", "ndcg")
        for name in present(rankings, mode)
        for k in metrics["ks"]
    ]
    return _table(f"Mode {mode}, test split.", ["", *GROUPS], rows)


def difference_table(metrics: Json, mode: str) -> Json:
    """Paired differences of the model to each baseline, by group."""
    k, versus = metrics["ks"][-1], metrics["splits"]["test"]["model_minus"]
    rows = []
    for name in present(versus, mode):
        cells = [versus[name][mode][g] for g in GROUPS]
        row = [
            (None if c["difference"] is None else signed(c["difference"]), c["se"]) for c in cells
        ]
        rows.append([f"model − {LABELS[name]}", *row])
    caption = f"Mode {mode}, test split: difference of recall@{k}, user by user, with its error. Bold: beyond two."
    table = _table(caption, ["", *GROUPS], rows)
    for name, made in zip(present(versus, mode), table["rows"], strict=True):
        for group, cell in zip(GROUPS, made["cells"][1:], strict=True):
            cell["bold"] = beyond_chance(versus[name][mode][group])
    return table


def beyond_chance(difference: Mapping[str, Any]) -> bool:
    """Whether a paired difference lies more than two of its standard errors from 0."""
    value, error = difference["difference"], difference["se"]
    return value is not None and error is not None and abs(value) > 2 * error


def bucket_table(metrics: Json) -> Json:
    """How the catalogue was cut."""
    rows = [
        [name, b["items"], b["events"], b["share_of_events"]]
        for name, b in metrics["buckets"].items()
    ]
    return _table("Buckets of the catalogue.", ["", "items", "training events", "share"], rows)


def exposure_table(rankings: Json) -> Json:
    """Whom the places go to."""
    keys = ("coverage", "gini", "mean_popularity")
    rows = []
    for mode in MODES:
        for name in present(rankings, mode):
            shown = rankings[name][mode]["exposure"]
            rows.append(
                [f"{mode}, {LABELS[name]}", *(shown[key] for key in keys), shown["shown"]["tail"]]
            )
    caption = (
        "Coverage: share of the catalogue shown to anybody. Gini: 0 even, 1 everything to one "
        "item. PopularityRanker: mean training events of what is shown."
    )
    return _table(caption, ["", "coverage", "Gini", "popularity", "places in the tail"], rows)


def tuning_tables(tuning: Json) -> list[Json]:
    """What was tried for each baseline on validation."""
    tables = []
    for name, points in tuning["tried"].items():
        keys = [key for key in points[0] if key not in ("recall", "se", "seconds", "chosen")]
        table = _table(
            f"{LABELS[name]}: {tuning['monitor']} on validation.",
            [*(key.replace("_", " ") for key in keys), "recall", "seconds"],
            [
                [*(_setting(p[key]) for key in keys), (p["recall"], p["se"]), f"{p['seconds']:.1f}"]
                for p in points
            ],
        )
        for row, point in zip(table["rows"], points, strict=True):
            row["chosen"] = point["chosen"]
        tables.append({**table, "numbers_first": True})
    return tables


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def gates_table(checks: Iterable[Mapping[str, Any]]) -> Json:
    """Each threshold of the rollout, what was measured against it, and whether that is enough."""
    rows = [
        [c["name"], c["received"], "kept" if c["passed"] else "not kept", c["expected"]]
        for c in checks
    ]
    return _table("What a served model has to show.", ["", "received", "", "expected"], rows)


def data_tables(data: Json) -> list[Json]:
    """What the manifest of the data holds: a table a nested block, one for single values."""
    single = {key: value for key, value in data.items() if not isinstance(value, (dict, list))}
    tables = [flat_table("Preprocessing.", single)] if single else []
    for key, value in data.items():
        if isinstance(value, dict) and key == "rejected" and not value:
            tables.append(flat_table("Rejected rows by reason.", {"none": 0}))
        elif isinstance(value, dict) and value:
            named = {"rejected": "Rejected rows by reason."}.get(
                key, f"{key.replace('_', ' ').capitalize()}."
            )
            tables.append(flat_table(named, value))
    return tables


def flat_table(caption: str, values: Mapping[str, Any]) -> Json:
    """One row a value; nested names are joined by a slash."""
    return _table(
        caption, ["", ""], [[key.replace("_", " "), value] for key, value in _flat(values)]
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} / ")
        else:
            yield (
                f"{prefix}{key}",
                ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value,
            )


def _table(caption: str, columns: list[str], rows: list[list[Any]]) -> Json:
    """What the template's macro takes; a cell may be a pair (value, error)."""
    made = [
        {
            "cells": [_cell(*value) if isinstance(value, tuple) else _cell(value) for value in row],
            "chosen": False,
            "mine": False,
        }
        for row in rows
    ]
    return {"caption": caption, "columns": columns, "rows": made, "numbers_first": False}


def _cell(value: Any, error: float | None = None) -> dict[str, Any]:
    return {
        "text": formatted(value),
        "error": "" if value is None or error is None else formatted(error),
        "bold": False,
    }


def formatted(value: Any) -> str:
    """Whole numbers with separators, shares with four decimals or five, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{_decimals(value)}f}" if abs(value) < 1 else f"{value:,.2f}"


def signed(value: float) -> str:
    """With its sign, and a minus as wide as the plus."""
    return f"{value:+.{_decimals(value)}f}".replace("-", "−")


def _decimals(value: float) -> int:
    """Four, and one more where the figures of the tail would lose what tells them apart."""
    return 5 if 0 < abs(value) < 0.001 else 4
