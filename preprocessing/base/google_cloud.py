"""Access to Google Cloud, looked into before any work; every failure is one line with its remedy."""

from __future__ import annotations

from typing import Any

from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import SCHEME, bucket_of

LOGIN = (
    "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS to the key "
    "of a service account"
)


def credentials() -> Any:
    """The application's default credentials.

    Raises:
      LongtailError: the extra ``gcp`` is not installed, or there are none.
    """
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
    except ImportError as error:
        raise LongtailError(
            f"Google Cloud needs the extra 'gcp' ({error}): pip install 'longtail[gcp]'"
        ) from error
    try:
        found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    except GoogleAuthError as error:
        raise LongtailError(f"found no credentials of Google Cloud: {LOGIN}") from error
    return found


def storage_client(project: str, found: Any) -> Any:
    """A client of Cloud Storage.

    Args:
      project: its id.
      found: ``credentials()``.

    Raises:
      LongtailError: the extra ``gcp`` is not installed.
    """
    try:
        from google.cloud import storage
    except ImportError as error:
        raise LongtailError(
            f"Cloud Storage needs the extra 'gcp' ({error}): pip install 'longtail[gcp]'"
        ) from error
    return storage.Client(project=project, credentials=found)


def require_bucket(client: Any, uri: str, key: str) -> None:
    """Looks whether the bucket of ``uri`` exists and can be seen; ``key`` names the setting that holds it.

    Raises:
      LongtailError: it does not, or not by these credentials.
    """
    from google.api_core.exceptions import GoogleAPICallError, NotFound
    from google.auth.exceptions import GoogleAuthError

    bucket = bucket_of(uri)
    try:
        client.get_bucket(bucket)
    except NotFound as error:
        raise LongtailError(
            f"{key}: the bucket {SCHEME}{bucket} does not exist: 'gcloud storage buckets create "
            f"{SCHEME}{bucket}', or name another"
        ) from error
    except GoogleAuthError as error:
        raise LongtailError(
            f"{key}: the credentials of Google Cloud are refused: {LOGIN}"
        ) from error
    except GoogleAPICallError as error:
        raise LongtailError(
            f"{key}: no access to {SCHEME}{bucket} ({error.message}): the account needs "
            "roles/storage.objectAdmin and storage.buckets.get"
        ) from error
