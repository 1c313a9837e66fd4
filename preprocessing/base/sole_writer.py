"""One process at a time writes an artifact."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from preprocessing.base.errors import LongtailError, LongtailFailure


@contextlib.contextmanager
def sole_writer(target: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a place for this process, with a lock beside it that the system opens however the process ends.

    In a mounted bucket (Cloud Storage FUSE) it keeps out the processes of this machine alone, or none where the
    mount knows no locks: two machines must not be given one place.

    Args:
      target: the place.
      wait: seconds to wait for another process.

    Raises:
      LongtailError: another process holds it.
      LongtailFailure: the place cannot be written.
    """
    path = target.with_name(f".{target.name}.lock")
    deadline = time.monotonic() + wait
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            while not _is_held(lock := path.open("w"), path, target, deadline):
                lock.close()
            stack.enter_context(lock)
        except OSError as error:
            raise LongtailFailure(
                f"cannot write beside {target}: {error.strerror or error}"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_held(lock: IO[str], path: Path, target: Path, deadline: float) -> bool:
    """Whether this process has the lock; not yet, or not where another one has just removed the file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if time.monotonic() < deadline:
            time.sleep(0.02)
            return False
        lock.close()
        raise LongtailError(
            f"expected to be alone in writing {target}, received the same place as another process that is at it: "
            "wait for that one, or name another place, e.g. --set work_dir=runs/other"
        ) from error
    except OSError:
        return True  # no locks here
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
