"""The report as HTML: it parses, needs no network, holds every plot, and bears what is missing."""

from __future__ import annotations

import copy
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from trainer.evaluation.baselines.own_frequent import OwnFrequent
from trainer.evaluation.baselines.popularity import PopularityRanker, RecentPopularity
from trainer.evaluation.buckets import assign_buckets
from trainer.evaluation.measured import Clock, headline, long_tail_curve, measure_split
from trainer.evaluation.protocol import QuerySplit, csr_of
from trainer.evaluation.report import page as report
from trainer.evaluation.report import tables
from trainer.functional.metrics import Targets

MODES = ("new", "all")
PLOTS = {f"{plot}-{mode}" for plot in ("bars", "frontier", "exposure") for mode in MODES}
PLOTS |= {"long-tail", "history"}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Fixed:
    """Shows the same rows to everybody."""

    def __init__(self, name: str, rows: list[int]) -> None:
        self.name, self._rows = name, rows

    def rank(self, queries: QuerySplit, k: int, exclude_seen: bool) -> np.ndarray:
        return np.tile(np.array(self._rows[:k]), (queries.num_users, 1))


def metrics(num_users: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    events = np.array([0, 60, 20, 10, 6, 3, 1, 0, 0])
    buckets = assign_buckets(events, (0.5, 0.3))
    users = np.repeat(np.arange(num_users), 3)
    targets = Targets.from_pairs(users, rng.integers(1, 9, users.size), num_users)
    seen = csr_of(users, rng.integers(1, 9, users.size), np.ones(users.size), (num_users, 9))
    rankers = [
        Fixed("model", [1, 2, 6, 3]),
        Fixed("als", [1, 3, 2, 4]),
        PopularityRanker(events),
        RecentPopularity({"validation": events[::-1].copy(), "test": events[::-1].copy()}),
        OwnFrequent(),
    ]
    clock = Clock()
    splits = {
        name: measure_split(
            QuerySplit(name, {}, targets, seen), rankers, buckets, [2, 4], clock, enough_hits=1
        )[0]
        for name in ("validation", "test")
    }
    point = {
        "factors": 8,
        "regularization": 0.1,
        "alpha": 1.0,
        "recall": 0.25,
        "se": 0.1,
        "seconds": 0.5,
    }
    return {
        "format": 1,
        "name": "a <shop> & more",
        "ks": [2, 4],
        "headline": headline(splits["test"]["rankers"]["model"]),
        "buckets": buckets.summary(),
        "splits": splits,
        "tuning": {"monitor": "recall@4/new", "tried": {"als": [{**point, "chosen": True}]}},
        "catalogue": long_tail_curve(buckets),
        "seconds": clock.rounded(),
        "made": {
            "fingerprint": "0123abcd",
            "command": "python -m trainer.evaluate shop.yaml",
            "at": "2026-01-01 00:00:00 UTC",
            "libraries": {"numpy": "1.26.4"},
            "config": {"train": {"monitor": "recall@4/new"}},
        },
        "data": {
            "counts": {"rows": 1234567, "examples": {"train": 9}},
            "rejected": {"missing item": 3},
        },
        "history": [
            {"step": 10, "loss": 3.0, "recall@4/new": 0.1, "recall@4/new/tail": None},
            {"step": 20, "loss": 2.0, "recall@4/new": 0.2, "recall@4/new/tail": 0.1},
        ],
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return report.draw(metrics())


@pytest.fixture(scope="module")
def html(drawn: dict[str, str]) -> str:
    return report.render_html(metrics(), drawn=drawn)


class Page(HTMLParser):
    """Ids, references, figures with a drawing and the cells of tables; fails on unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.drawn: set[str] = set()
        self.text: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.references += [
            str(given[name]) for name in ("src", "href", "xlink:href") if name in given
        ]
        if tag == "svg":
            figure = next(dict(a) for t, a in reversed(self._open) if t == "figure")
            self.drawn.add(str(figure["id"]))
            assert given["role"] == "img"
            assert given["aria-label"]
        if tag not in VOID:
            self._open.append((tag, given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._open and self._open[-1][0] == "td" and data.strip():
            self.cells.append((str(self._open[-1][1].get("class")), data.strip()))


def test_every_plot_is_there_and_nothing_comes_from_elsewhere(html: str) -> None:
    page = Page(html)
    assert page.drawn == PLOTS
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"https?:|//[a-z]|@import|<script|url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    inside = set(re.findall(r"url\(#([^)]+)\)", html))
    assert inside <= set(page.ids)


def test_it_follows_the_ground(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    # Placeholders of the drawing are all replaced, and no drawing brings a colour of its own.
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "#0101" not in drawings
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{3,6}", drawings)
    names = set(re.findall(r"var\((--[a-z-]+)\)", html))
    for block in re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL):
        assert names <= set(re.findall(r"(--[a-z-]+):", block))


def test_numbers_are_right_aligned(html: str) -> None:
    cells = Page(html).cells
    assert ("n", "1,234,567") in cells
    kinds = {kind for kind, text in cells if re.fullmatch(r"[−+]?[\d.,]+", text)}
    assert "n" in kinds and kinds <= {"n", "n bold"}


def test_bold_is_what_leads_by_more_than_chance_and_nothing_else(drawn: dict[str, str]) -> None:
    content = metrics()
    test = content["splits"]["test"]
    # Whoever has the highest mean: bold only where the differences say so.
    for mode in MODES:
        test["clearly_best"][mode] = dict.fromkeys(test["clearly_best"][mode])
    test["clearly_best"]["new"]["overall"] = "als"
    plain = tables.result_table(content, "test", "all")
    assert not any(cell["bold"] for row in plain["rows"] for cell in row["cells"])
    led = tables.result_table(content, "test", "new")
    bold = [
        (row["cells"][0]["text"], column)
        for row in led["rows"]
        for column, cell in zip(led["columns"], row["cells"], strict=True)
        if cell["bold"]
    ]
    assert bold == [("ALS", "overall")]
    page = report.render_html(content, drawn=drawn)
    assert page.count('class="n bold"') == 1 + sum(
        tables.beyond_chance(cell)
        for modes in test["model_minus"].values()
        for groups in modes.values()
        for cell in groups.values()
    )
    console = Console(width=110, record=True, file=io.StringIO(), force_terminal=True)
    console.print(report.render_table(content))
    styled = re.findall(r"\x1b\[1m([^\x1b]*)\x1b", console.export_text(styles=True))
    overall = test["rankers"]["als"]["new"]["overall"]["recall@4"]
    assert [text for text in styled if "±" in text] == [
        f"{overall:.4f} ± {test['rankers']['als']['new']['overall']['recall@4/se']:.4f}"
    ]


def test_what_was_tried_for_baselines_is_told(drawn: dict[str, str]) -> None:
    content = metrics()
    content["tuning"]["tried"]["neighbours"] = [
        {"weighting": w, "neighbours": 50, "recall": r, "se": 0.01, "seconds": 1.0, "chosen": c}
        for w, r, c in (("tfidf", 0.2, True), ("cosine", 0.1, False))
    ]
    als, neighbours = tables.tuning_tables(content["tuning"])
    assert als["columns"] == ["factors", "regularization", "alpha", "recall", "seconds"]
    assert neighbours["caption"] == "item neighbours: recall@4/new on validation."
    assert [row["cells"][0]["text"] for row in neighbours["rows"]] == ["tfidf", "cosine"]
    assert [row["chosen"] for row in neighbours["rows"]] == [True, False]
    assert "Tuning of the baselines" in report.render_html(content, drawn=drawn)


def test_the_name_is_escaped(html: str) -> None:
    assert "a &lt;shop&gt; &amp; more" in html
    assert "<shop>" not in html


def test_the_same_figures_give_the_same_page(drawn: dict[str, str]) -> None:
    content = metrics()
    assert report.draw(content) == drawn
    html = report.render_html(content, drawn=drawn)
    assert html == report.render_html(copy.deepcopy(content), drawn=drawn)


def test_an_index_has_its_section(html: str, drawn: dict[str, str]) -> None:
    assert "Index against exact search" not in html
    figures = {"kind": "scann", "recall": 0.9731, "latency_ms": {"p99": 2.75}}
    html = report.render_html(metrics(), figures, drawn=drawn)
    assert "Index against exact search" in html
    assert "0.9731" in html
    assert "latency ms / p99" in html


def test_what_is_missing_is_borne() -> None:
    content = metrics()
    for key in ("made", "data", "history", "seconds"):
        del content[key]
    content["tuning"]["tried"] = {}
    for split in content["splits"].values():
        for name in ("als", "own_frequent", "popularity", "recent_popularity"):
            del split["rankers"][name], split["model_minus"][name]
    page = Page(report.render_html(content))
    assert page.drawn == PLOTS - {"history"}


def test_a_history_without_the_monitored_figure() -> None:
    content = metrics()
    content["history"] = [{"step": 1, "note": "x"}]
    assert "history" in Page(report.render_html(content)).drawn


def test_no_user_in_the_split() -> None:
    content = metrics(num_users=0)
    html = report.render_html(content)
    assert Page(html).drawn == PLOTS
    assert "nothing to report" in report.summary(content)[0]
    report.render_table(content)


def test_the_summary_tells_what_the_users_can_tell_apart() -> None:
    content = metrics()
    versus = content["splits"]["test"]["model_minus"]["als"]["new"]
    versus["overall"] = {"users": 6, "difference": -0.02, "se": 0.001}
    versus["tail"] = {"users": 6, "difference": 0.01, "se": 0.02}
    line = next(line for line in report.summary(content) if "ALS" in line)
    assert (
        line
        == "Against ALS: overall worse (−0.0200 ± 0.0010); tail not told apart (+0.0100 ± 0.0200)."
    )


def test_the_table_of_the_terminal() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    content = metrics()
    console.print(report.render_table(content))
    text = console.export_text()
    recall = content["splits"]["test"]["rankers"]["model"]["new"]["overall"]["recall@4"]
    assert "recall@4 on test" in text
    assert f"{recall:.4f}" in text
    assert "all  own frequent" in text
    assert "new  own frequent" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_report_is_written_again_from_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
    (tmp_path / "index.json").write_text('{"recall": 0.5}')
    assert report.main([str(tmp_path), "--index", str(tmp_path / "index.json")]) == 0
    assert "Index against exact search" in (tmp_path / "report.html").read_text()
    assert report.main([str(tmp_path / "nowhere")]) == 2
    assert "metrics.json" in capsys.readouterr().err


def test_oddities_of_the_data_are_explained(html: str, drawn: dict[str, str]) -> None:
    odd = {
        "feature": "<b>channel",
        "split": "test against train",
        "found": "fax (~12%)",
        "means": "new",
    }
    page = report.render_html(metrics(), anomalies=[odd], drawn=drawn)
    assert "&lt;b&gt;channel" in page and "fax (~12%)" in page and "Oddities of the data" in page
    assert "None: presence" in report.render_html(metrics(), anomalies=[], drawn=drawn)
    assert "Oddities" not in html


def test_gates_are_told_with_what_was_measured(html: str, drawn: dict[str, str]) -> None:
    kept = {"name": "recall", "expected": "at least .1", "received": 0.25, "passed": True}
    failed = {"name": "tail", "expected": "at least .2", "received": None, "passed": False}
    page = report.render_html(metrics(), checks=[kept], drawn=drawn)
    assert "Blessed: every check is kept" in page and "0.2500" in page
    page = report.render_html(metrics(), checks=[kept, failed], drawn=drawn)
    assert "Not blessed" in page and "not kept" in page
    assert 'id="gates"' not in html
