"""Artifacts that appear whole or not at all: a temporary sibling, a manifest, a rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.locations import is_pattern
from preprocessing.base.sole_writer import sole_writer

MANIFEST = "manifest.json"
_NO_DIRECTORY_RENAME = (errno.EMFILE, errno.ENOSYS, errno.ENOTSUP)
"""What Cloud Storage FUSE answers for a folder of a bucket without hierarchical namespace."""
_LIBRARIES = (
    "tensorflow",
    "tensorflow-transform",
    "tensorflow-recommenders",
    "apache-beam",
    "scann",
    "numpy",
    "pyarrow",
)


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values; the order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> list[Any]:
    """Name, size and time of change of a file: what tells a changed input without reading it."""
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that shape an artifact."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a finished artifact, None where there is none, or something else of that name."""
    try:
        loaded = json.loads((directory / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def is_ours(directory: Path) -> bool:
    """Whether a directory holds a manifest of Longtail's: ``manifest.json`` is a name that others use as well."""
    manifest = read_manifest(directory)
    return manifest is not None and {"fingerprint", "libraries"} <= manifest.keys()


def require_replaceable(target: Path, ours: Callable[[Path], bool] = is_ours) -> None:
    """Refuses to write an artifact where something lies that is none.

    Args:
      target: place of the artifact.
      ours: whether a directory is one that may be replaced.

    Raises:
      LongtailError: a file is there, or a directory that is neither empty nor ours, or the name is a pattern.
    """
    if is_pattern(str(target.absolute())):  # Beam makes paths absolute
        raise LongtailError(
            f"{target.absolute()}: expected a place to write without *, ? and [, which TensorFlow and Beam take for a "
            "pattern: name another place, e.g. --set work_dir=/tmp/shop"
        )
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise LongtailError(
            f"{target}: expected a folder to write, or none yet, received a file: name another place"
        )
    held = next(target.iterdir(), None)
    if held is not None and not ours(target):
        raise LongtailError(
            f"{target}: expected an empty folder or one that Longtail wrote, received one with {held.name} and no "
            f"{MANIFEST} of ours; nothing was touched: name another place, or move what is there"
        )


def is_current(directory: Path, wanted: str) -> bool:
    """Whether a finished artifact was made from the same configuration and inputs."""
    manifest = read_manifest(directory)
    return manifest is not None and manifest.get("fingerprint") == wanted


def write_text_atomically(path: Path, text: str) -> None:
    """Write a small file through a temporary sibling and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LongtailFailure(
            f"cannot write {path}: {error.strerror or error}; nothing was replaced"
        ) from error


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, and never in place of another.

    Raises:
      LongtailError: another process writes it.
      LongtailFailure: a file is there, or the disk is full.
    """
    with sole_writer(path):
        discard_leftovers(path)
        temporary = _beside(path)
        try:
            temporary.write_bytes(content)
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno == errno.EEXIST or os.path.lexists(path):
                    raise
                os.rename(temporary, path)  # a file system without links
        except OSError as error:
            raise LongtailFailure(
                f"cannot write {path}: {error.strerror or error}; nothing was replaced"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(target: Path, ours: Callable[[Path], bool] = is_ours) -> Iterator[Path]:
    """A temporary sibling that takes the place of ``target`` if the block ends well, and is removed if not.

    Siblings that a killed run left behind are removed first; they can never be taken for the artifact.

    Args:
      target: place of the artifact; what lies there is replaced if it is ours, and else refused.
      ours: whether a directory is one that may be replaced.

    Raises:
      LongtailError: another process writes ``target``, see ``sole_writer``, or something else lies there.
      LongtailFailure: the disk is full or the place cannot be written.
    """
    require_replaceable(target, ours)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(sole_writer(target))
            discard_leftovers(target)
            temporary = _beside(target)
            temporary.mkdir()
        except OSError as error:
            raise LongtailFailure(
                f"cannot write beside {target}: {error.strerror or error}"
            ) from error
        try:
            yield temporary
            require_replaceable(target, ours)  # the block may have taken hours
            if target.exists():
                retired = _beside(target)
                move_directory(target, retired, manifest_first=True)
                move_directory(temporary, target)
                shutil.rmtree(retired)
            else:
                move_directory(temporary, target)
        except OSError as error:
            at = error.filename
            where = f" ({at})" if at and not str(at).startswith(str(temporary)) else ""
            raise LongtailFailure(
                f"cannot write {target}: {error.strerror or error}{where}; nothing was replaced"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_directory(source: Path, target: Path, *, manifest_first: bool = False) -> None:
    """Renames a directory; in a mounted bucket, which refuses that, file by file.

    There the manifest is the first file to leave or the last to arrive: a step that is killed between two files
    leaves nothing that could be taken for whole.
    """
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_RENAME:
            raise
    target.mkdir(exist_ok=True)
    for directory in sorted(path for path in source.rglob("*") if path.is_dir()):
        (target / directory.relative_to(source)).mkdir(exist_ok=True)
    files = [path for path in source.rglob("*") if not path.is_dir()]
    files.sort(key=lambda path: (path.parent == source, path.name == MANIFEST, path))
    for path in reversed(files) if manifest_first else files:
        os.replace(path, target / path.relative_to(source))
    shutil.rmtree(source)


def discard_leftovers(target: Path) -> None:
    """Remove the temporary siblings of ``target`` that a killed run left; names that only look alike stay."""
    own = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.tmp")
    for leftover in target.parent.iterdir() if target.parent.is_dir() else ():
        if own.fullmatch(leftover.name):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")


def write_manifest(directory: Path, wanted: str, content: dict[str, Any]) -> None:
    """The manifest of an artifact, written last."""
    document = {"fingerprint": wanted, "libraries": library_versions(), **content}
    write_text_atomically(directory / MANIFEST, json.dumps(document, indent=2, default=str) + "\n")
