"""Answers one user's query, from a running server or from the newest export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.commands import embedded, shop
from pipelines.config import Paths, RunConfig
from preprocessing.base.errors import LongtailError
from preprocessing.features import Kind, Side
from serving.client import RecallClient


def recommend(
    config: RunConfig,
    paths: Paths,
    console: Console,
    *,
    user: str,
    history: list[str],
    features: dict[str, str],
    k: int,
    url: str | None,
) -> list[dict[str, Any]]:
    """The best ``k`` items for a user: ``item``, ``title`` and ``score`` of each, best first.

    Args:
      user: the key; a user that no training saw is answered from history and features.
      history: item keys, oldest first; empty: the history on record, if the user is among the sample queries.
      features: further raw query features by name; those not given are missing.
      url: of a server; None starts one on a free port for this question.

    Raises:
      LongtailError: an unknown feature name, or nothing exported.
    """
    query = _query(config, paths, user, history, features)
    with _client(paths, console, url) as client:
        answers = client.recommend([query], k=k)[0]
    names = shop.titles(paths.data)
    return [{"item": item, "title": names.get(item, ""), "score": score} for item, score in answers]


def table(user: str, answers: list[dict[str, Any]]) -> Table:
    """The same for people."""
    shown = Table(title=f"for {user}")
    shown.add_column("item")
    shown.add_column("title")
    shown.add_column("score", justify="right")
    for each in answers:
        shown.add_row(each["item"], each["title"], f"{each['score']:.3f}")
    return shown


def _query(
    config: RunConfig, paths: Paths, user: str, history: list[str], features: dict[str, str]
) -> dict[str, Any]:
    listed = config.feature_list.query_columns
    unknown = sorted(set(features) - set(listed.names))
    if unknown:
        raise LongtailError(
            f"unknown query feature {', '.join(unknown)}: expected some of {', '.join(listed.names)}"
        )
    keys = [
        f.name
        for f in listed.of(Side.QUERY)
        if f.source in (config.data.columns.user, config.data.user_key)
    ]
    query: dict[str, Any] = {f.name: [] if f.kind is Kind.NUMERIC else [""] for f in listed}
    query |= {f.weights_name: [0.0] for f in listed if f.weights_name}
    query["history"] = [""]
    for known in shop.sample_queries(paths.asked):
        if any(known.get(key) == [user] for key in keys):
            query |= known
    query |= {key: [user] for key in keys}
    query |= {
        name: [float(v)] if listed.get(name).kind is Kind.NUMERIC else v.split("|")
        for name, v in features.items()
    }
    if history:
        query["history"] = history
    return query


@contextmanager
def _client(paths: Paths, console: Console, url: str | None) -> Iterator[RecallClient]:
    if url:
        with RecallClient(url, paths.name) as running:
            yield running
        return
    with embedded.server(paths.export, console) as running:
        yield running
