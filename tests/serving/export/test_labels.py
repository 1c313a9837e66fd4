"""Labels move whole or not at all; models.config and the embedded server say the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.export.folder import read_labels, withdrawn_versions
from serving.export.labels import (
    MODELS_CONFIG,
    ServedVersions,
    main,
    models_config,
    move_label,
    refresh_models_config,
    withdraw,
)
from serving.server.versions import ModelVersions


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


def served(text: str) -> tuple[list[int], dict[str, int]]:
    """Versions and labels as TF Serving reads them."""
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("m", "/models/m", "tensorflow")
    return list(model.model_version_policy.specific.versions), dict(model.version_labels)


def test_tf_serving_reads_the_rendered_config(export: Path) -> None:
    text = models_config(
        "m", ServedVersions([1, 2], {"stable": 1, "canary": 2}, {"old": 7}), "/models/m"
    )
    assert served(text) == ([1, 2], {"stable": 1, "canary": 2})
    assert "# label old is left out: version 7 is withdrawn" in text
    assert served((export / MODELS_CONFIG).read_text()) == ([2], {"stable": 2})


def answers(export: Path, labels: dict[str, int]) -> tuple[int, dict[str, int]]:
    """What the embedded server answers without a version, and by label."""
    versions = ModelVersions(export, load=Loaded)  # type: ignore[arg-type]
    versions.poll()

    def version(label: str | None = None) -> int:
        with versions.use(label=label) as lease:
            return lease.version

    return version(), {label: version(label) for label in labels}


@pytest.mark.parametrize(
    ("labels", "withdrawn", "newest", "left_out"),
    [
        ({}, set(), 5, set()),
        ({}, {5}, 4, set()),
        ({}, {4, 5}, 3, set()),
        ({}, {3, 4, 5}, 5, set()),  # someone has to answer
        ({"stable": 5}, set(), 5, set()),
        ({"stable": 4}, set(), 5, set()),
        ({"stable": 4}, {5}, 4, set()),
        ({"stable": 4, "canary": 5}, set(), 5, set()),
        ({"stable": 4, "canary": 5}, {5}, 4, {"canary"}),
        ({"stable": 3, "canary": 5}, {5}, 4, {"canary"}),
        ({"stable": 3, "canary": 5}, {4, 5}, 3, {"canary"}),
        ({"stable": 3, "canary": 4}, {3}, 5, set()),
        ({"stable": 3, "canary": 4}, {4}, 5, set()),
        ({"stable": 5, "canary": 5}, {5}, 4, {"stable", "canary"}),
        ({"stable": 3, "canary": 5, "gone": 9}, {5}, 4, {"canary"}),
    ],
)
def test_the_newest_in_service_answers_beside_any_labels(
    tmp_path: Path,
    labels: dict[str, int],
    withdrawn: set[int],
    newest: int,
    left_out: set[str],
) -> None:
    export = tmp_path / "m"
    for version in (3, 4, 5):
        (export / str(version)).mkdir(parents=True)
    if labels:
        (export / "labels.json").write_text(json.dumps(labels))
    for version in withdrawn:
        withdraw(export, version)
    known = {label: version for label, version in labels.items() if version < 9}
    assert answers(export, known) == (newest, known)
    if not labels:
        assert not (export / MODELS_CONFIG).exists()  # TF Serving's own policy holds
        return
    refresh_models_config(export)
    versions, named = served((export / MODELS_CONFIG).read_text())
    # TF Serving answers by the highest that is loaded, and knows the labels of loaded ones alone.
    assert max(versions) == newest
    assert named == {label: v for label, v in known.items() if label not in left_out}
    assert set(versions) == {newest, *named.values()}


def test_a_withdrawn_version_that_a_label_keeps_does_not_stand_in(tmp_path: Path) -> None:
    """The newest in service is broken: the next one in service answers, not the withdrawn one."""
    export = tmp_path / "m"
    for version in (2, 3, 4):
        (export / str(version)).mkdir(parents=True)
    (export / "labels.json").write_text('{"canary": 4}')
    withdraw(export, 4)

    def load(path: str) -> Loaded:
        if path.endswith("3"):
            raise ValueError("broken")
        return Loaded(path)

    versions = ModelVersions(export, load=load)  # type: ignore[arg-type]
    for _ in range(2):
        versions.poll()
        with versions.use() as lease, versions.use(label="canary") as canary:
            assert (lease.version, canary.version) == (2, 4)


def test_a_version_that_is_withdrawn_while_it_serves_makes_room(export: Path) -> None:
    move_label(export, "canary", 2)
    move_label(export, "stable", 1)
    versions = ModelVersions(export, load=Loaded)  # type: ignore[arg-type]
    for withdrawn, newest in ((set(), 2), ({2}, 1)):
        for version in withdrawn:
            withdraw(export, version)
        versions.poll()
        with versions.use() as lease, versions.use(label="canary") as canary:
            assert (lease.version, canary.version) == (newest, 2)
    assert served((export / MODELS_CONFIG).read_text()) == ([1], {"stable": 1})
    move_label(export, "canary", 2)
    assert served((export / MODELS_CONFIG).read_text()) == ([1, 2], {"stable": 1, "canary": 2})


def test_a_label_moves_to_what_is_there_alone(export: Path) -> None:
    with pytest.raises(LongtailError, match=r"expected a version of \[1, 2\] .* received 3"):
        move_label(export, "stable", 3)
    move_label(export, "canary", 1)
    assert read_labels(str(export)) == {"stable": 2, "canary": 1}


FOREIGN = 'model_config_list {\n  config { name: "mine" base_path: "/data/mine" }\n}\n'


@pytest.mark.parametrize("foreign", [FOREIGN, "", None])
def test_a_models_config_of_somebody_else_is_left_alone(export: Path, foreign: str | None) -> None:
    """None: a folder of that name."""
    path = export / MODELS_CONFIG
    written = path.read_text()
    path.unlink()
    path.mkdir() if foreign is None else path.write_text(foreign)
    for change in (
        lambda: move_label(export, "stable", 1),
        lambda: withdraw(export, 2),
        lambda: refresh_models_config(export),
    ):
        with pytest.raises(LongtailError, match="expected none, or one that Longtail wrote"):
            change()
        assert read_labels(str(export)) == {"stable": 2} and withdrawn_versions(export) == set()
        assert path.is_dir() if foreign is None else path.read_text() == foreign
    path.rename(export / "mine.config")
    move_label(export, "stable", 2)
    assert path.read_text() == written


def test_a_link_to_nothing_is_somebody_s(export: Path) -> None:
    (export / MODELS_CONFIG).unlink()
    (export / MODELS_CONFIG).symlink_to(export / "not mounted yet")
    with pytest.raises(LongtailError, match="expected none, or one that Longtail wrote"):
        move_label(export, "stable", 1)
    assert (export / MODELS_CONFIG).is_symlink()


def test_without_labels_a_models_config_is_nobody_s_business(export: Path) -> None:
    (export / "labels.json").unlink()
    (export / MODELS_CONFIG).write_text(FOREIGN)
    withdraw(export, 2)
    refresh_models_config(export)
    assert (export / MODELS_CONFIG).read_text() == FOREIGN


@pytest.mark.parametrize("foreign", ['["cat", "dog"]', '{"0": "cat"}', "cat\ndog\n"])
def test_a_labels_json_of_somebody_else_is_left_alone(export: Path, foreign: str) -> None:
    (export / "labels.json").write_text(foreign)
    for change in (lambda: move_label(export, "stable", 1), lambda: withdraw(export, 2)):
        with pytest.raises(LongtailError, match="repair the file, or move it out of the folder"):
            change()
    assert (export / "labels.json").read_text() == foreign and not withdrawn_versions(export)


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
    printed = capsys.readouterr().out
    assert printed == models_config("m", ServedVersions([2], {"stable": 2}, {}), "/mnt/m")
    (export / MODELS_CONFIG).write_text(printed)  # with a path of its own it is the user's
    with pytest.raises(LongtailError, match="expected none, or one that Longtail wrote"):
        move_label(export, "stable", 1)
    (export / "labels.json").unlink()
    assert main([str(export)]) == 2
    assert "labels.json holds no label" in capsys.readouterr().err
