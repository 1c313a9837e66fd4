"""Beam's options before any work, places in buckets, and what workers import."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import google.auth
import pytest
from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.runners.portability.stager import Stager
from google.api_core.exceptions import NotFound
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage

from preprocessing.base import locations
from preprocessing.base.artifacts import MANIFEST, read_manifest, whole_directory
from preprocessing.base.config_io import parse_config
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.beam.runners import Runner
from preprocessing.config import DataSections
from preprocessing.run import preprocess

DATA = Path("/gcs/shop/runs/data")
CLOUD = ("--project=p", "--region=europe-west4", "--temp_location=gs://shop/tmp")


def config(path: str = "gs://shop/log-*.parquet", **preprocess: Any) -> DataSections:
    document = {
        "name": "shop",
        "work_dir": "runs/shop",
        "data": {
            "interactions": {"path": path},
            "columns": {"user": "user", "item": "item", "timestamp": "at"},
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user"},
            {"name": "sku", "side": "item", "kind": "id", "column": "item"},
        ],
        "preprocess": preprocess,
    }
    return parse_config(document, DataSections, "file.yaml")


@pytest.fixture
def setup_file(root: Path) -> str:
    return f"--setup_file={root / 'setup.py'}"


def test_the_runner_of_the_command_wins() -> None:
    assert Runner(config()).name == "DirectRunner"
    assert Runner(config(runner="SparkRunner")).name == "SparkRunner"
    by_option = config(runner="SparkRunner", beam_options=["--runner=FlinkRunner"])
    assert Runner(by_option).name == "FlinkRunner"
    assert Runner(by_option, ["--runner=DataflowRunner"]).name == "DataflowRunner"
    assert Runner(by_option).make() == "FlinkRunner"


def test_the_main_session_is_never_pickled() -> None:
    options = Runner(config(), ["--save_main_session"]).options()
    assert options.view_as(SetupOptions).save_main_session is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runner=DataflowRunner"], "needs --project=PROJECT, --region=REGION, --temp_location="),
        (["--runner=DataflowRunner", *CLOUD], "needs --setup_file=./setup.py, --extra_package="),
        (["--runner=DataflowRunner", *CLOUD, "SETUP"], "found no credentials .*run 'gcloud auth"),
        (["--setup_file=nowhere/setup.py"], "--setup_file expected an existing file, received .*nowhere"),
        (["--direct_num_worker=2"], "DirectRunner, received unknown --direct_num_worker$"),
    ],
)  # fmt: skip
def test_what_a_runner_lacks_is_one_line(
    options: list[str], message: str, setup_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(**_: Any) -> Any:
        raise DefaultCredentialsError("not found\nsee ...")

    monkeypatch.setattr(google.auth, "default", none)
    given = [setup_file if option == "SETUP" else option for option in options]
    with pytest.raises(LongtailError, match=message) as caught:
        Runner(config(), given).check(DATA)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "data_dir", "message"),
    [
        ("gs://shop/log.parquet", Path("runs/data"), "data directory in a bucket, received runs/data"),
        ("log.parquet", DATA, r"expected sources as gs://BUCKET/\.\.\. or in BigQuery, received log"),
    ],
)  # fmt: skip
def test_dataflow_cannot_reach_this_machine(
    path: str, data_dir: Path, message: str, setup_file: str
) -> None:
    with pytest.raises(LongtailError, match=message):
        Runner(config(path), ["--runner=DataflowRunner", *CLOUD, setup_file]).check(data_dir)


@pytest.mark.parametrize("exists", [True, False])
def test_the_bucket_of_dataflow_has_to_exist(
    exists: bool, setup_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __init__(self, **_: Any) -> None:
            pass

        def get_bucket(self, name: str) -> None:
            assert name == "shop"
            if not exists:
                raise NotFound("gone")

    monkeypatch.setattr(google.auth, "default", lambda **_: (None, "p"))
    monkeypatch.setattr(storage, "Client", Client)
    runner = Runner(config(), ["--runner=DataflowRunner", *CLOUD, setup_file])
    if exists:
        runner.check(DATA)
    else:
        with pytest.raises(LongtailError, match="--temp_location: the bucket gs://shop does not"):
            runner.check(DATA)


def test_preprocessing_looks_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(LongtailError, match="DataflowRunner needs"):
        preprocess(config(), tmp_path / "data", beam_options=["--runner=DataflowRunner"])
    with pytest.raises(LongtailError, match=r"no file matches .*span-7/\*\.parquet"):
        preprocess(config(str(tmp_path / "span-7" / "*.parquet")), tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_setup_file_carries_every_package(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Beam's own staging, from another folder and by a relative path."""
    monkeypatch.chdir(root / "docs")
    options = Runner(config(), ["--setup_file=../setup.py"]).options()
    staged = Stager.create_job_resources(
        options, str(tmp_path), log_submission_env_dependencies=False
    )
    [archive] = tmp_path.glob("*.tar.gz")
    assert staged
    listed = subprocess.run(
        ["tar", "tzf", archive], capture_output=True, text=True, check=True
    ).stdout
    names = {name.partition("/")[2] for name in listed.splitlines()}
    packages = ("preprocessing", "trainer", "serving", "pipelines")
    wanted = {str(p.relative_to(root)) for name in packages for p in (root / name).rglob("*.py")}
    assert wanted <= names


@pytest.mark.slow
def test_workers_that_read_and_divide_do_without_tensorflow() -> None:
    """Which costs a worker 9 seconds of CPU and 450 MB where it is imported."""
    code = (
        "import sys, preprocessing.beam.workers\n"
        "import preprocessing.transform.item_counts, preprocessing.transform.mutual_information\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=900)
    assert done.returncode == 0


def test_places_in_buckets() -> None:
    assert locations.mounted("gs://shop/runs/x") == Path("/gcs/shop/runs/x")
    assert locations.mounted("runs/x") == Path("runs/x")
    assert locations.shared(Path("/gcs/shop/runs/x")) == "gs://shop/runs/x"
    assert locations.shared(Path("/tmp/x")) == "/tmp/x"
    assert locations.bucket_of("gs://shop/runs") == "shop"
    for wrong in ("gs://", "shop/runs", "gs:///runs"):
        with pytest.raises(LongtailError, match="expected gs://BUCKET"):
            locations.bucket_of(wrong)


def test_a_bucket_that_is_not_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "MOUNT", tmp_path)
    with pytest.raises(LongtailError, match=r"expected gs://shop mounted at .*gcsfuse"):
        locations.reachable("gs://shop/runs/x")
    (tmp_path / "shop").mkdir()
    assert locations.reachable("gs://shop/runs/x") == tmp_path / "shop" / "runs" / "x"
    assert locations.shared(tmp_path / "shop" / "x") == "gs://shop/x"


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are moved, in order, where folders cannot be: in a mounted bucket."""
    replace, order = os.replace, []

    def without_folders(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(errno.EMFILE, "too many open files")
        order.append(Path(source).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", without_folders)
    return order


def write(directory: Path, text: str) -> None:
    (directory / "graph" / "empty").mkdir(parents=True)
    for name in ("a.txt", "graph/b.txt"):
        (directory / name).write_text(text)
    (directory / MANIFEST).write_text(json.dumps({"fingerprint": text, "libraries": {}}))


def test_in_a_mounted_bucket_the_manifest_arrives_last(tmp_path: Path, moves: list[str]) -> None:
    target = tmp_path / "data"
    for text in ("old", "new"):
        with whole_directory(target) as out:
            write(out, text)
    files = [p for p in target.rglob("*") if p.is_file() and p.name != MANIFEST]
    assert {p.read_text() for p in files} == {"new"}
    assert (read_manifest(target) or {})["fingerprint"] == "new"
    assert (target / "graph" / "empty").is_dir()
    assert list(tmp_path.iterdir()) == [target]
    assert len(moves) == 9
    assert moves[2] == moves[3] == moves[8] == MANIFEST  # arrives; leaves first; arrives


def test_another_failure_of_a_rename_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill() -> None:
        with whole_directory(tmp_path / "data") as out:
            write(out, "new")
            monkeypatch.setattr(os, "replace", full)

    with pytest.raises(LongtailFailure, match="No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []
