"""Versions that appear, break, are named and go while the model serves."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.server.servable import Servable
from serving.server.status import StatusError
from serving.server.versions import ModelVersions

Save = Callable[..., Path]
Wait = Callable[[Callable[[], bool]], None]


class Fake:
    """A servable that remembers whether it was closed; a folder with `broken` does not load."""

    def __init__(self, path: str) -> None:
        if (Path(path) / "broken").exists():
            raise ValueError("no graph here")
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    return folder


@pytest.fixture
def make(base: Path) -> Iterator[Callable[..., ModelVersions]]:
    made: list[ModelVersions] = []

    def build(**options: Any) -> ModelVersions:
        options = {"poll_seconds": 60.0, "load": Fake, **options}
        made.append(ModelVersions(str(base), **options))
        made[-1].start()
        return made[-1]

    yield build
    for versions in made:
        versions.stop()


def add(base: Path, version: int, broken: bool = False) -> None:
    (base / str(version)).mkdir()
    if broken:
        (base / str(version) / "broken").touch()


def states(versions: ModelVersions) -> dict[int, str]:
    return {int(row["version"]): row["state"] for row in versions.status()}


def latest(versions: ModelVersions) -> int:
    with versions.use() as lease:
        return lease.version


def test_newest_version_by_number_is_served(base: Path, make: Callable[..., Any]) -> None:
    for name in ("9", "00010", "temp-11", "12x"):
        (base / name).mkdir()
    (base / "13").touch()  # a file is no version
    versions = make()
    assert versions.name == "m"
    assert latest(versions) == 10
    assert states(versions) == {10: "AVAILABLE"}


def test_new_version_takes_over_and_the_old_one_is_closed(
    base: Path, make: Callable[..., Any]
) -> None:
    versions = make()
    with versions.use() as lease:
        old = lease.servable
        add(base, 2)
        versions.poll()
        assert latest(versions) == 2
        # A request still has it on loan.
        assert states(versions) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert not old.closed
        with pytest.raises(StatusError, match=r"Specific\(m, 1\)"), versions.use(1):
            pass
    assert old.closed
    assert states(versions) == {2: "AVAILABLE", 1: "END"}


def test_broken_version_leaves_the_old_one_serving(base: Path, make: Callable[..., Any]) -> None:
    versions = make(max_load_attempts=2, retry_seconds=0.0)
    add(base, 2, broken=True)
    versions.poll()
    assert latest(versions) == 1
    assert states(versions) == {2: "LOADING", 1: "AVAILABLE"}
    versions.poll()
    (row,) = versions.status(2)
    assert row["state"] == "END"
    assert row["status"] == {
        "error_code": "UNKNOWN",
        "error_message": "ValueError: no graph here",
    }
    (base / "2" / "broken").unlink()
    versions.poll()
    assert states(versions)[2] == "END"  # two attempts were all
    shutil.rmtree(base / "2")
    versions.poll()
    assert states(versions) == {1: "AVAILABLE"}
    add(base, 2)
    versions.poll()
    assert latest(versions) == 2


def test_broken_version_is_tried_again_later(base: Path, make: Callable[..., Any]) -> None:
    versions = make(retry_seconds=60.0)
    add(base, 2, broken=True)
    versions.poll()
    (base / "2" / "broken").unlink()
    versions.poll()  # not yet
    assert states(versions)[2] == "LOADING"
    versions._entries[2].next_attempt = 0.0
    versions.poll()
    assert latest(versions) == 2


def test_restart_survives_a_broken_newest_version(base: Path, make: Callable[..., Any]) -> None:
    add(base, 2)
    add(base, 3, broken=True)
    versions = make()
    assert states(versions) == {3: "LOADING", 2: "AVAILABLE"}


def test_removing_the_newest_version_goes_back(base: Path, make: Callable[..., Any]) -> None:
    add(base, 2)
    versions = make()
    assert latest(versions) == 2
    shutil.rmtree(base / "2")
    versions.poll()
    assert latest(versions) == 1
    add(base, 2)
    versions.poll()
    assert latest(versions) == 2


def test_empty_folder_keeps_what_is_loaded(
    base: Path, make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    versions = make()
    shutil.rmtree(base)
    versions.poll()
    versions.poll()
    assert latest(versions) == 1
    assert caplog.text.count("no version left") == 1


def test_labels_keep_versions_and_move_once_loaded(base: Path, make: Callable[..., Any]) -> None:
    add(base, 2)
    labels = base / "labels.json"
    labels.write_text('{"stable": 1}')
    versions = make()
    assert states(versions) == {2: "AVAILABLE", 1: "AVAILABLE"}
    with versions.use(label="stable") as lease:
        assert lease.version == 1
    add(base, 3, broken=True)
    labels.write_text('{"stable": 3}')
    versions.poll()
    with versions.use(label="stable") as lease:
        assert lease.version == 1  # 3 does not run
    labels.write_text("{")
    versions.poll()
    with versions.use(label="stable") as lease:
        assert lease.version == 1
    labels.unlink()
    versions.poll()
    with pytest.raises(StatusError, match="label: stable"), versions.use(label="stable"):
        pass
    assert states(versions) == {3: "LOADING", 2: "AVAILABLE", 1: "END"}


@pytest.mark.parametrize("labels", ["{", "[]", '{"a": "1"}', '{"a": true}', '{"a": -1}'])
def test_bad_labels_stop_the_start(base: Path, make: Callable[..., Any], labels: str) -> None:
    (base / "labels.json").write_text(labels)
    with pytest.raises(LongtailError, match="expected JSON such as"):
        make()


def test_nothing_that_loads_is_a_failure(base: Path, make: Callable[..., Any]) -> None:
    (base / "1" / "broken").touch()
    with pytest.raises(LongtailFailure, match="version 1: UNKNOWN: ValueError: no graph here"):
        make()


def test_folders_that_hold_no_versions(tmp_path: Path) -> None:
    def message(path: Path | str) -> str:
        with pytest.raises(LongtailError) as caught:
            ModelVersions(str(path)).start()
        return str(caught.value)

    assert "received no such folder" in message(tmp_path / "nope")
    assert "received a folder without versions; run the export" in message(tmp_path)
    assert "received a URL" in message("gs://bucket/m")
    (tmp_path / "export" / "m" / "1").mkdir(parents=True)
    assert message(tmp_path / "export").endswith(f"give {tmp_path / 'export' / 'm'}")
    (tmp_path / "export" / "m" / "1" / "saved_model.pb").touch()
    assert message(tmp_path / "export/m/1").endswith(f"give {tmp_path / 'export' / 'm'}")


def test_watching_survives_any_error(
    base: Path, make: Callable[..., Any], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = make(poll_seconds=0.02)
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise OSError("the disk is away")

    monkeypatch.setattr(versions, "poll", fail)
    wait_for(lambda: len(failures) > 1)
    monkeypatch.undo()
    add(base, 2)
    wait_for(lambda: states(versions).get(2) == "AVAILABLE")


def test_real_version_appears_while_another_serves(
    base: Path, save_linear: Save, wait_for: Wait
) -> None:
    shutil.rmtree(base / "1")
    save_linear(base / "1", factor=1.0)
    versions = ModelVersions(str(base), poll_seconds=0.05)
    versions.start()
    try:
        ones = {"x": np.ones([1, 4], np.float32)}
        with versions.use() as lease:
            assert lease.servable.run("", ones)["y"].tolist() == [[4.0, 4.0]]
            save_linear(base / ".tmp-2", factor=2.0).rename(base / "2")
            wait_for(lambda: latest(versions) == 2)
            assert lease.servable.run("", ones)["y"].tolist() == [[4.0, 4.0]]
        with versions.use() as lease:
            assert lease.servable.run("", ones)["y"].tolist() == [[8.0, 8.0]]
        (base / "3").mkdir()
        (base / "3" / "saved_model.pb").write_bytes(b"not a graph")
        wait_for(lambda: states(versions).get(3) == "LOADING")
        wait_for(lambda: versions.status(3)[0]["status"]["error_code"] == "UNKNOWN")
        assert latest(versions) == 2
    finally:
        versions.stop()


def write_warmup(version: Path, x: list[list[float]]) -> None:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "linear"
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(x, tf.float32))
    other = prediction_log_pb2.PredictionLog()
    other.regress_log.SetInParent()
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(
        str(version / "assets.extra" / "tf_serving_warmup_requests")
    ) as writer:
        writer.write(log.SerializeToString())
        writer.write(other.SerializeToString())


def test_warm_up_requests_are_replayed(
    tmp_path: Path, save_linear: Save, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    version = save_linear(tmp_path / "1")
    write_warmup(version, [[1, 2, 3, 4]])
    servable = Servable(str(version))
    servable.close()
    assert "replayed 1 warm-up requests" in caplog.text
    assert "record 1 skipped: not a predict_log" in caplog.text


def test_failing_warm_up_fails_the_load(tmp_path: Path, save_linear: Save) -> None:
    version = save_linear(tmp_path / "1")
    write_warmup(version, [[1, 2]])
    with pytest.raises(StatusError, match="Matrix size-incompatible"):
        Servable(str(version))


def test_warm_up_without_its_package_is_skipped(
    tmp_path: Path,
    save_linear: Save,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = save_linear(tmp_path / "1")
    write_warmup(version, [[1, 2, 3, 4]])
    module = "tensorflow_serving.apis.prediction_log_pb2"
    monkeypatch.setitem(sys.modules, module, None)
    Servable(str(version)).close()
    assert "warm-up skipped: tensorflow-serving-api is not installed" in caplog.text


def test_status_is_json(base: Path, make: Callable[..., Any]) -> None:
    assert json.dumps(make().status())
