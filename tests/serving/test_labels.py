"""Labels move whole or not at all; models.config and the embedded server say the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from preprocessing.errors import LongtailError, LongtailFailure
from serving.export_dir import read_labels, withdrawn_versions
from serving.labels import MODELS_CONFIG, main, models_config, move_label, withdraw
from serving.versions import ModelVersions


class Loaded:
    """Stands for a SavedModel."""

    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        """Nothing to let go."""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Versions 1 and 2, the label at 2."""
    for version in (1, 2):
        (tmp_path / "m" / str(version) / "assets.extra").mkdir(parents=True)
    move_label(tmp_path / "m", "stable", 2)
    return tmp_path / "m"


def test_tf_serving_reads_the_rendered_config(export: Path) -> None:
    text = models_config("m", {"stable": 1, "canary": 2, "old": 1}, "/models/m")
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("m", "/models/m", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2, "old": 1}
    written = (export / MODELS_CONFIG).read_text()
    assert written == models_config("m", {"stable": 2}, "/models/m")


def test_a_label_moves_to_what_is_there_alone(export: Path) -> None:
    with pytest.raises(LongtailError, match=r"expected a version of \[1, 2\] .* received 3"):
        move_label(export, "stable", 3)
    move_label(export, "canary", 1)
    assert read_labels(str(export)) == {"stable": 2, "canary": 1}


@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_move_that_dies_leaves_a_whole_label(
    export: Path, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Death at the first rename (labels.json) or at the second (models.config).
    replace: Callable[..., Any] = os.replace
    calls = []

    def dying(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == dies_at:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(LongtailFailure):
        move_label(export, "stable", 1)
    assert read_labels(str(export)) == {"stable": 2 if dies_at == 1 else 1}
    monkeypatch.undo()
    move_label(export, "stable", 1)
    assert "stable" in (export / MODELS_CONFIG).read_text()


def test_the_embedded_server_prefers_no_withdrawn_version(export: Path) -> None:
    versions = ModelVersions(export, load=Loaded)  # type: ignore[arg-type]
    versions.poll()

    def answering(label: str | None = None) -> int:
        with versions.use(label=label) as lease:
            return lease.version

    assert answering() == answering("stable") == 2
    withdraw(export, 2)  # a kill here leaves the label, which is still answered by 2
    versions.poll()
    assert answering("stable") == 2
    move_label(export, "stable", 1)
    versions.poll()
    assert answering() == answering("stable") == 1
    move_label(export, "stable", 2)  # back into service
    assert withdrawn_versions(export) == set()
    versions.poll()
    assert answering() == answering("stable") == 2


def test_where_everything_is_withdrawn_the_newest_answers(export: Path) -> None:
    (export / "labels.json").unlink()
    withdraw(export, 1)
    withdraw(export, 2)
    versions = ModelVersions(export, load=Loaded)  # type: ignore[arg-type]
    versions.poll()
    with versions.use() as lease:
        assert lease.version == 2


def test_the_command_prints_it(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(export), "--base-path", "/mnt/m"]) == 0
    assert 'base_path: "/mnt/m"' in capsys.readouterr().out
    (export / "labels.json").unlink()
    assert main([str(export)]) == 2
    assert "expected labels in labels.json, received none" in capsys.readouterr().err
