"""The folder that a model is served from: numbered version folders and, perhaps, labels.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from preprocessing.base.errors import LongtailError

LABELS_FILE = "labels.json"
ASSETS = "assets.extra"
DESCRIPTION = "longtail.json"
WITHDRAWN = os.path.join(ASSETS, "withdrawn")
"""File in a version that a rollback took out of service."""
_LARGEST_VERSION = 2**63 - 1
_MEND = "repair the file, or move it out of the folder"


def version_paths(base_dir: str | os.PathLike[str]) -> dict[int, str]:
    """The numbered folders in `base_dir` by their number; none where it does not exist."""
    paths: dict[int, str] = {}
    for name in os.listdir(base_dir) if os.path.isdir(base_dir) else ():
        path = os.path.join(base_dir, name)
        numbered = name.isascii() and name.isdigit() and int(name) <= _LARGEST_VERSION
        if numbered and os.path.isdir(path):
            paths[int(name)] = path
    return paths


def newest_version(export_dir: Path) -> Path | None:
    """The folder of the highest version, None without one."""
    versions = version_paths(str(export_dir))
    return Path(versions[max(versions)]) if versions else None


def read_description(version: Path) -> dict[str, Any]:
    """``assets.extra/longtail.json`` of a version, {} where it has none."""
    try:
        loaded: dict[str, Any] = json.loads((version / ASSETS / DESCRIPTION).read_text())
        return loaded
    except (OSError, ValueError):
        return {}


def withdrawn_versions(base_dir: str | os.PathLike[str]) -> set[int]:
    """Numbers of the versions that a rollback took out of service."""
    paths = version_paths(base_dir)
    return {v for v, path in paths.items() if os.path.exists(os.path.join(path, WITHDRAWN))}


def check_export_dir(base_dir: str | os.PathLike[str]) -> None:
    """Raises `LongtailError`, with the likely remedy, unless the folder holds a version."""
    expected = (
        "expected a folder with numbered versions, such as export/recall with export/recall/1"
    )
    if ":/" in os.fspath(base_dir):  # a Path makes one slash of the two
        raise LongtailError(
            f"{base_dir}: {expected}, received a URL; copy the export to a local folder, or serve "
            "it with TF Serving (docs/serving.md)"
        )
    if not os.path.isdir(base_dir):
        raise LongtailError(
            f"{base_dir}: {expected}, received no such folder; run the export first"
        )
    if version_paths(base_dir):
        return
    if os.path.exists(os.path.join(base_dir, "saved_model.pb")):
        parent = os.path.dirname(os.path.abspath(base_dir))
        raise LongtailError(f"{base_dir}: {expected}, received one version; give {parent}")
    models = sorted(os.path.join(base_dir, d) for d in os.listdir(base_dir))
    models = [path for path in models if version_paths(path)]
    remedy = f"give {' or '.join(models)}" if models else "run the export first"
    raise LongtailError(f"{base_dir}: {expected}, received a folder without versions; {remedy}")


def read_labels(base_dir: str) -> dict[str, int]:
    """The versions by label in `labels.json`, {} without it; `LongtailError` if malformed."""
    path = os.path.join(base_dir, LABELS_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            labels = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LongtailError(
            f'{path}: expected JSON such as {{"stable": 3}}, received: {error}; {_MEND}'
        ) from error
    if not isinstance(labels, dict) or any(type(v) is not int or v < 0 for v in labels.values()):
        raise LongtailError(
            f'{path}: expected JSON such as {{"stable": 3}}, received {labels!r}; {_MEND}'
        )
    return labels
