"""The real Google Cloud of a submission, over clients that answer here: what it asks, and what it says of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError
from google.cloud import aiplatform_v1, storage

from pipelines.vertex import cloud as real
from preprocessing.base.errors import LongtailError, LongtailFailure

VERTEX = {"project": "shop-1", "region": "europe-west4", "staging_bucket": "gs://staging/jobs"}


class Storage:
    """Takes the place of ``google.cloud.storage.Client``."""

    error: Exception | None = None

    def __init__(self, **_: Any) -> None:
        self.written: list[str] = []

    def get_bucket(self, name: str) -> None:
        if self.error:
            raise self.error

    def bucket(self, name: str) -> Any:
        self.written.append(name)
        return self

    def blob(self, name: str) -> Any:
        self.written.append(name)
        return self

    def download_as_text(self) -> str:
        if self.error:
            raise self.error
        return "content"

    def upload_from_filename(self, path: str) -> None:
        self.written.append(path)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Callable[[], real.GoogleCloud]:
    """The real cloud over clients that answer here."""
    monkeypatch.setattr(google.auth, "default", lambda **_: (None, "shop-1"))
    monkeypatch.setattr(storage, "Client", Storage)
    monkeypatch.setattr(Storage, "error", None)
    return lambda: real.GoogleCloud(real.VertexConfig(**VERTEX))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            exceptions.NotFound("gone"),
            "gs://staging does not exist: 'gcloud storage buckets create",
        ),
        (
            exceptions.Forbidden("not yours"),
            "no access to gs://staging .*roles/storage.objectAdmin",
        ),
        (RefreshError("expired"), "credentials of Google Cloud are refused: run 'gcloud auth"),
    ],
)
def test_a_bucket_that_is_not_there_or_not_open(
    connected: Callable[[], real.GoogleCloud], monkeypatch: pytest.MonkeyPatch,
    error: Exception, message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Storage, "error", error)
    with pytest.raises(LongtailError, match=f"vertex.staging_bucket: .*{message}"):
        connected().require_bucket("gs://staging/jobs", "vertex.staging_bucket")


def test_the_real_cloud_names_bucket_and_object(
    connected: Callable[[], real.GoogleCloud], tmp_path: Path
) -> None:
    cloud = connected()
    cloud.upload(tmp_path / "x.yaml", "gs://staging/jobs/x.yaml")
    assert cloud._storage.written == ["staging", "jobs/x.yaml", str(tmp_path / "x.yaml")]
    assert cloud.read("gs://staging/jobs/x.yaml") == "content"


def test_what_cannot_be_read_is_told_apart_from_what_is_not_there(
    connected: Callable[[], real.GoogleCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = connected()
    monkeypatch.setattr(Storage, "error", exceptions.NotFound("gone"))
    assert cloud.read("gs://staging/jobs/x.yaml") is None
    monkeypatch.setattr(Storage, "error", exceptions.Forbidden("not yours"))
    with pytest.raises(LongtailError, match=r"no access to gs://staging/jobs/x\.yaml"):
        cloud.read("gs://staging/jobs/x.yaml")


@pytest.mark.parametrize("refused", [False, True])
def test_the_real_cloud_asks_for_the_job_in_its_region(
    connected: Callable[[], real.GoogleCloud], monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    asked: dict[str, Any] = {}

    class Jobs:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def create_custom_job(self, *, parent: str, custom_job: Any) -> Any:
            if refused:
                raise exceptions.ResourceExhausted("quota of L4")
            asked.update(parent=parent, job=custom_job)
            return aiplatform_v1.CustomJob(name=f"{parent}/customJobs/1")

    monkeypatch.setattr(aiplatform_v1, "JobServiceClient", Jobs)
    if refused:
        with pytest.raises(LongtailFailure, match=r"refused the job .*quota of L4"):
            connected().create_custom_job({"display_name": "x"})
        return
    made = connected().create_custom_job({"display_name": "x"})
    assert made == "projects/shop-1/locations/europe-west4/customJobs/1"
    assert asked["parent"] == "projects/shop-1/locations/europe-west4"
    assert asked["client_options"]["api_endpoint"] == "europe-west4-aiplatform.googleapis.com"
    assert asked["job"].display_name == "x"
