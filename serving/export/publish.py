"""How versions come into the folder that servers watch, one process at a time."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from preprocessing.base.artifacts import move_directory
from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.sole_writer import sole_writer
from serving.export.folder import ASSETS, DESCRIPTION, newest_version, read_description

_PLACE = "versions"
_WAIT_SECONDS = 60.0
"""For another process that publishes or moves a label, which takes it moments."""
_held = threading.local()


@contextlib.contextmanager
def exclusive(export_dir: Path) -> Iterator[None]:
    """Holds a folder of versions, to publish, to label or to withdraw; other processes wait.

    What was read of the folder stays true till the end. The system opens the lock however the process
    ends. May be entered again by the thread that holds it.

    Raises:
      LongtailError: another process held it for a minute.
      LongtailFailure: the folder cannot be written.
    """
    mine: set[Path] = _held.__dict__.setdefault("folders", set())
    folder = Path(export_dir).resolve()
    if folder in mine:
        yield
        return
    with sole_writer(folder / _PLACE, wait=_WAIT_SECONDS):
        mine.add(folder)
        try:
            yield
        finally:
            mine.discard(folder)


@contextlib.contextmanager
def staging(export_dir: Path) -> Iterator[Path]:
    """An empty hidden folder beside the versions, gone at the end unless it was published.

    What killed processes left behind is removed; several processes may each fill a folder.

    Raises:
      LongtailFailure: the disk is full or the place cannot be written.
    """
    export_dir = Path(export_dir)
    folder = export_dir / f".{_PLACE}.{uuid.uuid4().hex[:8]}.tmp"
    with contextlib.ExitStack() as held:
        try:
            with exclusive(export_dir):
                _discard_leftovers(export_dir)
                held.enter_context(sole_writer(folder))
                folder.mkdir()
            yield folder
        except OSError as error:
            raise LongtailFailure(
                f"cannot write {folder}: {error.strerror or error}; no version appeared"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, export_dir: Path) -> Path:
    """Rename a whole version, as `staging` gave it, to the next number.

    Raises:
      LongtailError, LongtailFailure: see `exclusive`.
    """
    with exclusive(export_dir):
        newest = newest_version(export_dir)
        target = Path(export_dir) / str(int(newest.name) + 1 if newest else 1)
        description = {**read_description(folder), "version": int(target.name)}
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
        (folder / ASSETS / DESCRIPTION).write_text(text)
        move_directory(folder, target)
    return target


def _discard_leftovers(export_dir: Path) -> None:
    for leftover in export_dir.glob(f".{_PLACE}.*.tmp"):
        with contextlib.suppress(LongtailError), sole_writer(leftover):  # held by who fills it
            shutil.rmtree(leftover, ignore_errors=True)
