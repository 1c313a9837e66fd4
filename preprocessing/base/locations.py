"""Places in buckets: ``gs://BUCKET/x`` for workers and services, ``/gcs/BUCKET/x`` for everything that opens files.

Vertex AI mounts every bucket below ``/gcs`` (Cloud Storage FUSE) in custom training and pipelines; elsewhere
``gcsfuse --implicit-dirs BUCKET /gcs/BUCKET`` does.
"""

from __future__ import annotations

import re
from pathlib import Path

from preprocessing.base.errors import LongtailError

SCHEME = "gs://"
MOUNT = Path("/gcs")
COMPRESSED = (".gz", ".bz2", ".zst")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, as ``gs://`` is one; a colon alone is a character like others."""
    return _URI.match(path) is not None


def is_pattern(path: str) -> bool:
    """Whether a path may mean several files."""
    return re.search(r"[*?[]", path) is not None


def is_folder(path: str) -> bool:
    """Whether a path is a folder of this machine."""
    return not is_remote(path) and Path(path).is_dir()


def bucket_of(uri: str) -> str:
    """BUCKET of ``gs://BUCKET/...``.

    Raises:
      LongtailError: it is none.
    """
    bucket = uri.removeprefix(SCHEME).partition("/")[0]
    if not uri.startswith(SCHEME) or not bucket:
        raise LongtailError(f"expected gs://BUCKET/..., received '{uri}'")
    return bucket


def mounted(place: str | Path) -> Path:
    """Where a file or folder is opened: ``gs://BUCKET/x`` below the mount, all else as it is."""
    text = str(place)
    return MOUNT / text.removeprefix(SCHEME) if text.startswith(SCHEME) else Path(place)


def reachable(place: str | Path) -> Path:
    """``mounted``, for a process that is going to use it.

    Raises:
      LongtailError: the bucket is not mounted here.
    """
    path = mounted(place)
    if str(place).startswith(SCHEME):
        bucket = bucket_of(str(place))
        if not (MOUNT / bucket).is_dir():
            raise LongtailError(
                f"expected {SCHEME}{bucket} mounted at {MOUNT / bucket}, found no such folder: run on Vertex AI, "
                f"or mount it with 'gcsfuse --implicit-dirs {bucket} {MOUNT / bucket}'"
            )
    return path


def shared(path: Path) -> str:
    """What a worker on another machine calls a path: ``gs://BUCKET/x`` of one below the mount."""
    if path.is_relative_to(MOUNT):
        return SCHEME + path.relative_to(MOUNT).as_posix()
    return str(path)
