"""What a submission asks of Google Cloud: a small protocol, and the real thing behind the extra ``gcp``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pipelines.vertex.vertex_config import VertexConfig
from preprocessing.base import google_cloud
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import SCHEME, bucket_of
from preprocessing.base.optional import require


class Cloud(Protocol):
    """Tests give one of their own."""

    def require_bucket(self, uri: str, key: str) -> None:
        """Looks whether the bucket of ``uri`` is there; ``key`` names the setting."""

    def read(self, uri: str) -> str | None:
        """The text of an object, None where there is none."""

    def upload(self, path: Path, uri: str) -> None:
        """Copies a file into a bucket."""

    def create_custom_job(self, job: dict[str, Any]) -> str:
        """Starts a job; gives its resource name."""

    def create_pipeline_job(self, job: dict[str, Any]) -> str:
        """Starts a compiled pipeline; gives its resource name."""


class GoogleCloud:
    """Cloud Storage and Vertex AI with the application's default credentials.

    Raises:
      LongtailError: the extra ``gcp`` is not installed, or there are no credentials.
    """

    def __init__(self, config: VertexConfig) -> None:
        self._config = config
        self._aiplatform = require("google.cloud.aiplatform_v1", "gcp")
        self._errors = require("google.api_core.exceptions", "gcp")
        self._auth_error = require("google.auth.exceptions", "gcp").GoogleAuthError
        self._credentials = google_cloud.credentials()
        self._storage = google_cloud.storage_client(config.project, self._credentials)

    def require_bucket(self, uri: str, key: str) -> None:
        """See ``google_cloud.require_bucket``."""
        google_cloud.require_bucket(self._storage, uri, key)

    def read(self, uri: str) -> str | None:
        """Asks Cloud Storage.

        Raises:
          LongtailError: it does not answer to these credentials.
        """
        with self._access(uri):
            try:
                return str(self._blob(uri).download_as_text())
            except self._errors.NotFound:
                return None

    def upload(self, path: Path, uri: str) -> None:
        """Writes the object.

        Raises:
          LongtailError: the credentials may not write there.
        """
        with self._access(uri):
            self._blob(uri).upload_from_filename(str(path))

    def create_custom_job(self, job: dict[str, Any]) -> str:
        """Asks Vertex AI.

        Raises:
          LongtailFailure: it refuses the job.
        """
        client, request = self._client("JobServiceClient"), self._aiplatform.CustomJob(job)
        with self._refusals():
            made = client.create_custom_job(parent=self._config.parent, custom_job=request)
        return str(made.name)

    def create_pipeline_job(self, job: dict[str, Any]) -> str:
        """Asks Vertex AI Pipelines.

        Raises:
          LongtailFailure: it refuses the job.
        """
        client, request = self._client("PipelineServiceClient"), self._aiplatform.PipelineJob(job)
        with self._refusals():
            made = client.create_pipeline_job(parent=self._config.parent, pipeline_job=request)
        return str(made.name)

    def _client(self, kind: str) -> Any:
        endpoint = f"{self._config.region}-aiplatform.googleapis.com"
        return getattr(self._aiplatform, kind)(
            credentials=self._credentials, client_options={"api_endpoint": endpoint}
        )

    @contextmanager
    def _access(self, uri: str) -> Iterator[None]:
        try:
            yield
        except (self._errors.GoogleAPICallError, self._auth_error) as error:
            raise LongtailError(
                f"no access to {uri} ({str(error).splitlines()[0][:200]}): the account needs "
                "roles/storage.objectAdmin; 'gcloud auth application-default login' renews credentials"
            ) from error

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except self._errors.GoogleAPICallError as error:
            raise LongtailFailure(
                f"Vertex AI refused the job in {self._config.parent}: {error.message}; see that the API "
                "aiplatform.googleapis.com is enabled, the quota suffices and the account has roles/aiplatform.user"
            ) from error

    def _blob(self, uri: str) -> Any:
        bucket = bucket_of(uri)
        return self._storage.bucket(bucket).blob(uri.removeprefix(f"{SCHEME}{bucket}/"))
