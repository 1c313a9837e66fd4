"""What was preprocessed, for people: features, vocabularies, missing values, buckets, refusals, anomalies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.table import Table

from pipelines.config import Paths, RunConfig
from preprocessing.base.progress import Stages
from preprocessing.features import Feature, Kind, Side
from preprocessing.finished import finished_data
from trainer.data.data_checks import check_data
from trainer.data.item_table import ItemTable
from trainer.data.readable_examples import Columns, indices
from trainer.data.vocabulary import PADDING, table_sizes
from trainer.evaluation.buckets import assign_buckets


def inspect(
    config: RunConfig, paths: Paths, console: Console
) -> tuple[dict[str, Any], RenderableType]:
    """Look at what was preprocessed.

    Returns:
      Counts and anomalies, and a page with them, features and buckets for people.

    Raises:
      LongtailError: nothing was preprocessed, or by another configuration.
    """
    manifest = finished_data(paths.data, config)
    items = ItemTable.load(paths.data, config.feature_list)
    sampled = indices(config, paths.data, "train", config.data_checks.max_examples)
    anomalies = check(config, paths, console)
    page = Group(
        features(config, paths, items, sampled),
        buckets(config, items),
        counts(manifest),
        *lines(anomalies),
    )
    return {"counts": manifest["counts"], "anomalies": anomalies}, page


def check(config: RunConfig, paths: Paths, console: Console) -> list[dict[str, str]]:
    """The anomalies of the examples, against the run that is continued where there is one."""
    earlier = config.train.continue_from
    earlier_dir = Path(earlier) / paths.statistics.name if earlier else None
    return check_data(config, paths.data, paths.statistics, earlier_dir, Stages(console))


def tell(anomalies: list[dict[str, str]], console: Console) -> None:
    """Print one line an anomaly."""
    for line in lines(anomalies):
        console.print(line, highlight=False)


def lines(anomalies: list[dict[str, str]]) -> list[str]:
    """One line an anomaly, with rich's markup."""
    return [
        f"  [yellow]{each['feature']}[/yellow] ({each['split']}): {each['found']} [dim]{each['means']}[/dim]"
        for each in anomalies
    ]


def features(config: RunConfig, paths: Paths, items: ItemTable, sampled: Columns) -> Table:
    """The feature list with what was found of each."""
    sizes = table_sizes(paths.data, config.feature_list)
    rows = len(next(iter(sampled.values())))
    table = Table(
        title=f"{config.name}: features; missing and unknown among {rows:,} training examples, of "
        "items also in the catalogue",
        title_justify="left",
    )
    for name in ("feature", "side", "kind", "column"):
        table.add_column(name)
    for name in ("vocabulary", "hashed", "dim", "missing", "unknown", "catalogue"):
        table.add_column(name, justify="right")
    for feature in config.feature_list:
        owner = config.feature_list.get(config.feature_list.table_of(feature))
        size, hashed = "", ""
        if feature.is_embedded and owner.kind is Kind.NUMERIC:
            size = f"{owner.buckets} buckets"
        elif feature.is_embedded:
            hashed = str(owner.num_oov_buckets)
            size = f"{sizes[owner.name] - owner.num_oov_buckets - PADDING:,}"
        catalogue = items.features[feature.name].numpy()[1:] if feature.side is Side.ITEM else None
        unknown = _unknown(feature, owner, sampled, sizes)
        table.add_row(
            feature.name,
            feature.side.value,
            feature.kind.value,
            f"= {owner.name}" if feature.shared_with else feature.source,
            size,
            hashed,
            str(owner.dim) if feature.is_embedded else "1",
            _percent(_missing(feature, sampled)),
            _percent(unknown),
            _percent(None if catalogue is None else _empty(catalogue)),
        )
    return table


def buckets(config: RunConfig, items: ItemTable) -> Table:
    """Head, torso, tail and unseen: items, events and examples."""
    cut = assign_buckets(items.counts_events, config.evaluate.bucket_shares)
    total = max(int(items.counts_examples.sum()), 1)
    table = Table(title="popularity buckets", title_justify="left")
    table.add_column("")
    for name in ("items", "of items", "events", "of events", "examples", "of examples"):
        table.add_column(name, justify="right")
    for index, (name, found) in enumerate(cut.summary().items()):
        examples = int(items.counts_examples[cut.bucket_of_item == index].sum())
        table.add_row(
            name,
            f"{found['items']:,}",
            _percent(found["items"] / max(items.num_items, 1)),
            f"{found['events']:,}",
            _percent(found["share_of_events"]),
            f"{examples:,}",
            _percent(examples / total),
        )
    return table


def counts(manifest: dict[str, Any]) -> Table:
    """Examples, rows, and what was rejected for which reason."""
    table = Table(title="log", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in manifest["counts"].items():
        if isinstance(value, dict):
            for split, number in value.items():
                table.add_row(f"{name} {split}", f"{number:,}")
        else:
            own = (
                name if "'" in name else name.replace("_", " ")
            )  # a name of the log stays as it is
            table.add_row(own, f"{value:,}")
    for reason, number in manifest["rejected"].items():
        table.add_row(f"rejected: {reason}", f"{number:,}")
    for name, instant in manifest.get("split", {}).items():
        table.add_row(name.replace("_", " "), instant)
    return table


def _missing(feature: Feature, sampled: Columns) -> float | None:
    """Of a z-score the share of exact zeros, which a missing value becomes."""
    if feature.kind is Kind.SEQUENCE:
        return float(np.mean(sampled["history length"] == 0))
    return _empty(sampled[feature.name])


def _empty(values: NDArray[Any]) -> float:
    """Share of rows without any value."""
    return float(np.mean((values == 0).reshape(len(values), -1).all(axis=1)))


def _unknown(
    feature: Feature, owner: Feature, sampled: Columns, sizes: dict[str, int]
) -> float | None:
    """Share of the values there are that fell into the hashed buckets."""
    if not feature.is_embedded or owner.kind is Kind.NUMERIC or feature.kind is Kind.SEQUENCE:
        return None
    values = sampled[feature.name]
    first = sizes[owner.name] - owner.num_oov_buckets
    return float((values >= first).sum() / max((values > 0).sum(), 1))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
