"""Training on Vertex AI: the request that a recording cloud is given, the real client's types, what is refused."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from io import StringIO
from pathlib import Path
from typing import Any

import google.auth
import pytest
import yaml
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import aiplatform_v1
from rich.console import Console

from pipelines import cli
from pipelines.vertex import package, submit
from preprocessing.base.artifacts import fingerprint
from preprocessing.base.errors import LongtailError
from preprocessing.finished import FORMAT

VERTEX = {"project": "shop-1", "region": "europe-west4", "staging_bucket": "gs://staging/jobs"}
WORK_DIR = "gs://shop-data/runs/shop"
OTHER_DATA = {f"{WORK_DIR}/data/manifest.json": f'{{"settings": {{"format": {FORMAT}}}}}'}
GPU = {"accelerator_type": "NVIDIA_L4", "accelerator_count": 2}


class RecordingCloud:
    """Holds some objects, refuses one bucket, and records what is asked of it."""

    def __init__(self, objects: dict[str, str] | None = None) -> None:
        self.objects = {f"{WORK_DIR}/data/manifest.json": "{}"} if objects is None else objects
        self.calls: list[tuple[str, str]] = []
        self.jobs: list[dict[str, Any]] = []

    def require_bucket(self, uri: str, key: str) -> None:
        self.calls.append((key, uri))

    def read(self, uri: str) -> str | None:
        return self.objects.get(uri)

    def upload(self, path: Path, uri: str) -> None:
        assert path.is_file()
        self.calls.append(("upload", uri))

    def create_custom_job(self, job: dict[str, Any]) -> str:
        self.jobs.append(job)
        return "projects/7/locations/europe-west4/customJobs/99"


def write_config(directory: Path, vertex: dict[str, Any] | None, **changes: Any) -> Path:
    document: dict[str, Any] = {
        "name": "shop",
        "work_dir": WORK_DIR,
        "data": {
            "interactions": {"path": "gs://shop-data/log.parquet"},
            "columns": {"user": "user", "item": "item", "timestamp": "at"},
        },
        "features": [
            {"name": "who", "side": "query", "kind": "id", "column": "user", "dim": 4},
            {"name": "sku", "side": "item", "kind": "id", "column": "item", "dim": 4},
        ],
        **changes,
    }
    if vertex is not None:
        document["vertex"] = vertex
    path = directory / "shop.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def started(config: Path, cloud: RecordingCloud, *overrides: str, **options: Any) -> str:
    printed = StringIO()
    submit.train(
        config, overrides, Console(file=printed, width=80), connect=lambda _: cloud, **options
    )
    return printed.getvalue()


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    path = tmp_path / "longtail-0.1.0-py3-none-any.whl"
    path.write_bytes(b"")
    return str(path)


def test_one_machine_installs_the_package_and_trains(tmp_path: Path, wheel: str) -> None:
    cloud = RecordingCloud()
    printed = started(write_config(tmp_path, VERTEX), cloud, "seed=7", package=wheel)
    [job] = cloud.jobs
    [pool] = job["job_spec"]["worker_pool_specs"]
    assert pool["replica_count"] == 1
    assert pool["machine_spec"] == {"machine_type": "n2-standard-8"}
    uploads = [uri for call, uri in cloud.calls if call == "upload"]
    folder = uploads[0].rpartition("/")[0]
    assert folder.startswith("gs://staging/jobs/longtail/shop-")
    assert uploads == [f"{folder}/longtail-0.1.0-py3-none-any.whl", f"{folder}/shop.yaml"]
    place = folder.replace("gs://", "/gcs/")
    container = pool["container_spec"]
    assert container["args"] == [
        f"{place}/longtail-0.1.0-py3-none-any.whl", f"{place}/shop.yaml", "--set", "seed=7",
    ]  # fmt: skip
    assert container["command"][:2] == ["sh", "-c"]
    assert "LD_LIBRARY_PATH" not in container["command"][2]
    assert "service_account" not in job["job_spec"]
    assert cloud.calls[:2] == [
        ("vertex.staging_bucket", "gs://staging/jobs"), ("work_dir", WORK_DIR),
    ]  # fmt: skip
    assert "customJobs/99" in printed
    assert "locations/europe-west4/training/99?project=shop-1" in printed


def test_the_command_gives_every_word_to_trainer_task(tmp_path: Path, wheel: str) -> None:
    """The shell line runs here, with a python3 that tells what it was called with."""
    cloud = RecordingCloud()
    awkward = "train.monitor=recall@100/new; echo 'ouch' $HOME"
    started(write_config(tmp_path, VERTEX), cloud, "seed=7", package=wheel)
    [pool] = cloud.jobs[0]["job_spec"]["worker_pool_specs"]
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    fake.chmod(0o755)
    command = [*pool["container_spec"]["command"], *pool["container_spec"]["args"], awkward]
    env = {"PATH": f"{fake.parent}:/usr/bin:/bin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    place, config = pool["container_spec"]["args"][:2]
    install = ["-m", "pip", "install", "--no-cache-dir", place]
    task = ["-m", "trainer.task", config, "--set", "seed=7", awkward]
    assert done.stdout.splitlines() == [f"<{word}>" for word in [*install, *task]]


def test_several_machines_with_accelerators(tmp_path: Path, wheel: str) -> None:
    train = {
        "replicas": 4, "machine_type": "g2-standard-24", "image": "europe-docker.pkg.dev/p/r/i:1",
        "spot": True, "timeout_hours": 1.5, **GPU,
    }  # fmt: skip
    vertex = VERTEX | {
        "train": train,
        "service_account": "trainer@shop-1.iam.gserviceaccount.com",
        "labels": {"team": "recall"},
    }
    cloud = RecordingCloud()
    started(write_config(tmp_path, vertex), cloud, package=wheel)
    [job] = cloud.jobs
    chief, workers = job["job_spec"]["worker_pool_specs"]
    assert (chief.pop("replica_count"), workers.pop("replica_count")) == (1, 3)
    assert chief == workers
    assert chief["machine_spec"] == {"machine_type": "g2-standard-24", **GPU}
    assert chief["container_spec"]["args"][0].endswith(".whl[gpu]")
    assert "LD_LIBRARY_PATH" in chief["container_spec"]["command"][2]
    assert chief["container_spec"]["image_uri"] == "europe-docker.pkg.dev/p/r/i:1"
    assert job["job_spec"]["service_account"].startswith("trainer@")
    assert job["labels"] == {"longtail": "train", "team": "recall"}
    assert job["job_spec"]["scheduling"] == {
        "timeout": {"seconds": 5400}, "strategy": "SPOT", "restart_job_on_worker_restart": True,
    }  # fmt: skip


@pytest.mark.parametrize("train", [{}, {"replicas": 4, "spot": True, **GPU}], ids=["one", "many"])
def test_the_real_client_takes_the_request(tmp_path: Path, wheel: str, train: Any) -> None:
    cloud = RecordingCloud()
    started(write_config(tmp_path, VERTEX | {"train": train}), cloud, package=wheel)
    job = aiplatform_v1.CustomJob(cloud.jobs[0])  # refuses names that it does not know
    first = job.job_spec.worker_pool_specs[0]
    assert job.job_spec.scheduling.timeout.total_seconds() == 24 * 3600
    assert first.container_spec.command[:2] == ["sh", "-c"]
    assert first.machine_spec.accelerator_count == train.get("accelerator_count", 0)
    strategy = aiplatform_v1.Scheduling.Strategy
    assert job.job_spec.scheduling.strategy is (strategy.SPOT if train else strategy.STANDARD)
    assert [p.replica_count for p in job.job_spec.worker_pool_specs] == ([1, 3] if train else [1])


def test_a_dry_run_prints_the_request_and_asks_nobody(
    tmp_path: Path, wheel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, VERTEX | {"train": {"replicas": 2}})
    assert cli.main(["vertex", "train", str(config), "--dry-run", "--package", wheel]) == 0
    printed = capsys.readouterr().out
    request = yaml.safe_load(printed)
    assert request["parent"] == "projects/shop-1/locations/europe-west4"
    assert "&id" not in printed
    aiplatform_v1.CustomJob(request["custom_job"])


@pytest.mark.parametrize(
    ("vertex", "changes", "objects", "options", "message"),
    [
        (None, {}, None, {}, "the section 'vertex' is missing, with project, region"),
        (VERTEX, {"work_dir": "runs/shop"}, None, {}, "work_dir: expected gs://BUCKET"),
        (VERTEX, {}, {}, {}, "/data/manifest.json is missing, .*longtail preproc"),
        (
            VERTEX,
            {},
            OTHER_DATA,
            {},
            "data and features and histories and preprocess and rewards as weights: run preprocess again",
        ),
        (VERTEX, {}, None, {"package": "nowhere.whl"}, "found no file nowhere.whl"),
        (VERTEX | {"staging_bucket": "bucket"}, {}, None, {}, "vertex.staging_bucket"),
        (VERTEX | {"regoin": "x"}, {}, None, {}, "vertex.regoin: unknown key"),
        (VERTEX | {"train": {"accelerator_type": "NVIDIA_L4"}}, {}, None, {}, "accelerator_count"),
        (VERTEX | {"train": {"replicas": 3}}, {}, None, {}, "batch_size: .*multiple of the 3"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(
    tmp_path: Path,
    vertex: Any,
    changes: dict[str, Any],
    objects: dict[str, str] | None,
    options: dict[str, Any],
    message: str,
) -> None:
    cloud = RecordingCloud(objects)
    with pytest.raises(LongtailError, match=message) as caught:
        started(write_config(tmp_path, vertex, **changes), cloud, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not cloud.jobs
    assert not [call for call, _ in cloud.calls if call == "upload"]


def test_without_credentials_one_line(
    tmp_path: Path, wheel: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(**_: Any) -> Any:
        raise DefaultCredentialsError("Your default credentials were not found.\nTo set up ...")

    monkeypatch.setattr(google.auth, "default", none)
    config = write_config(tmp_path, VERTEX)
    assert cli.main(["vertex", "train", str(config), "--package", wheel]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: found no credentials of Google Cloud: run 'gcloud auth")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("module", ["google.cloud.aiplatform_v1", "google.cloud"])
def test_without_the_extra_one_line(
    tmp_path: Path,
    wheel: str,
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    config = write_config(tmp_path, VERTEX)
    assert cli.main(["vertex", "train", str(config), "--package", wheel]) == 2
    printed = capsys.readouterr().err
    assert "pip install 'longtail[gcp]'" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.slow
def test_the_sdist_holds_everything_and_can_be_imported(root: Path, tmp_path: Path) -> None:
    before = set(root.iterdir())
    built = package.build_sdist(tmp_path)
    assert set(root.iterdir()) == before
    with tarfile.open(built) as archive:
        archive.extractall(tmp_path)
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    names = ("preprocessing", "trainer", "serving", "pipelines")
    wanted = {
        path.relative_to(root)
        for name in names
        for pattern in ("*.py", "*.j2")
        for path in (root / name).rglob(pattern)
    } | {path.relative_to(root) for path in (root / "configs").glob("*.yaml")}
    assert not [path for path in wanted if not (folder / path).is_file()]
    assert not (folder / "tests").exists()
    done = subprocess.run(
        [sys.executable, "-m", "trainer.task", "--help"],
        cwd=folder, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "python -m trainer.task" in done.stdout


def test_a_wheel_cannot_build_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.pipelines, "__file__", str(tmp_path / "pipelines" / "__init__.py"))
    with pytest.raises(LongtailError, match=r"installed from a wheel.*--package"):
        package.source_tree()


def test_the_section_changes_no_artifact(tmp_path: Path) -> None:
    from pipelines.config import RunConfig
    from preprocessing.base.config_io import load_config
    from trainer.task import training_fingerprint

    made = [
        training_fingerprint(load_config(write_config(tmp_path, v), RunConfig), fingerprint("data"))
        for v in (None, VERTEX)
    ]
    assert made[0] == made[1]
