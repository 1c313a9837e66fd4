"""What longtail inspect prints, on a small finished ``data/``."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from pipelines.commands.inspect import inspect
from pipelines.config import Paths, RunConfig
from preprocessing.base.artifacts import write_manifest
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError
from tests.trainer.synthetic import make_config, write_data


def config_of(work_dir: Path) -> RunConfig:
    document = make_config(work_dir, data_checks={"enabled": False}).model_dump(mode="json")
    return parse_config(document, RunConfig, "synthetic")


def test_everything_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, config = Paths(tmp_path, "synthetic"), config_of(tmp_path)
    write_data(paths.data)
    counted = {"counts": {"rows": 1_000, "examples": {"train": 960}}, "rejected": {"no time": 40}}
    write_manifest(paths.data, "synthetic", counted)
    result, page = inspect(config, paths, Console(quiet=True))
    assert result == {"counts": counted["counts"], "anomalies": []}
    Console(width=160).print(page)
    lines = capsys.readouterr().out.splitlines()

    def line(start: str) -> list[str]:
        found = next(each for each in lines if each.startswith(f"│ {start} "))
        return [cell.strip() for cell in found.strip("│").split("│")]

    # 64 products and a hashed bucket; all are known, none is missing.
    assert line("product")[4:] == ["64", "1", "8", "0.0 %", "0.0 %", "0.0 %"]
    assert line("recent")[3:7] == ["= product", "64", "1", "8"]
    assert line("hour")[4] == "4 buckets"
    assert line("recent")[7] == "5.0 %"  # the first of each user's 20 events has no history
    assert line("unseen")[1] == "4"
    assert line("head")[4].endswith("%")
    assert line("rejected: no time")[1] == "40"
    assert line("examples train")[1] == "960"


def test_without_data_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="run preprocess first"):
        inspect(config_of(tmp_path), Paths(tmp_path, "synthetic"), Console(quiet=True))
