"""The versions of one model in a folder: which are loaded, which one answers, and how they change.

The policy is TF Serving's: the highest number is served, plus the versions that labels name; what a
rollback withdrew counts for nothing. A new version is loaded while the old one answers, and takes
over only once it runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from preprocessing.base.errors import LongtailError, LongtailFailure
from serving.export.folder import check_export_dir, read_labels, version_paths, withdrawn_versions
from serving.server.status import StatusError, invalid

if TYPE_CHECKING:
    from serving.server.servable import Servable

LOG = logging.getLogger("longtail.serving")


@dataclass
class _Entry:
    version: int
    state: str = "START"
    error: StatusError | None = None
    attempts: int = 0
    next_attempt: float = 0.0
    servable: Servable | None = None
    leases: int = 0


class Lease(NamedTuple):
    """A version on loan to a request; its session stays open until the loan ends."""

    version: int
    servable: Servable


def load_servable(path: str) -> Servable:
    """Loads one version; imports TensorFlow only now, so that bad arguments are told at once."""
    from serving.server.servable import Servable

    return Servable(path)


def servable_not_found(model: str, version: int | None) -> StatusError:
    """The answer of TF Serving to a request for a model or version that is not loaded."""
    request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return StatusError("NOT_FOUND", f"Servable not found for request: {request}")


class ModelVersions:
    """The served versions of the model in `base_dir`, e.g. `export/<model>` with folders 1, 2, ...

    Args:
      base_dir: a local folder; `labels.json` in it, e.g. `{"stable": 3}`, names versions.
      name: of the model; the name of the folder by default.
      poll_seconds: how often the folder is looked at.
      max_load_attempts, retry_seconds: a version that fails to load is tried that often, that far
        apart, and stays LOADING meanwhile; then it is at its END, with the error. 5 and 60 are the
        defaults of TF Serving.
    """

    def __init__(
        self,
        base_dir: str | os.PathLike[str],
        name: str | None = None,
        *,
        poll_seconds: float = 2.0,
        max_load_attempts: int = 5,
        retry_seconds: float = 60.0,
        load: Callable[[str], Servable] = load_servable,
    ) -> None:
        self.base_dir = os.fspath(base_dir)
        self.name = name or os.path.basename(os.path.abspath(base_dir))
        self._poll_seconds = poll_seconds
        self._max_load_attempts = max_load_attempts
        self._retry_seconds = retry_seconds
        self._load = load
        self._entries: dict[int, _Entry] = {}
        self._labels: dict[str, int] = {}
        self._withdrawn: set[int] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_warning = ""

    def start(self) -> None:
        """Loads what is there and keeps watching the folder in a thread.

        Raises: `LongtailError` for a folder without versions or bad labels, `LongtailFailure` if
          none of the versions can be loaded.
        """
        check_export_dir(self.base_dir)
        read_labels(self.base_dir)
        self.poll()
        if not self._available():
            errors = [f"version {e.version}: {e.error}" for e in self._entries.values() if e.error]
            raise LongtailFailure(
                f"no version of {self.base_dir} can be loaded ({'; '.join(errors)}); export again"
            )
        self._thread = threading.Thread(target=self._watch, name="longtail-versions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops watching and closes every version that no request is using."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        self._retire(set(self._entries))

    def poll(self) -> None:
        """Looks at the folder once: loads what is wanted, then lets go of what is not."""
        paths = version_paths(self.base_dir)
        on_disk = set(paths)
        if not on_disk:
            # Not TF Serving's way, which unloads everything: a folder that is being moved should
            # not end the service.
            self._warn(f"no version left in {self.base_dir}: serving what is loaded")
            return
        try:
            labels = read_labels(self.base_dir)
        except LongtailError as error:
            self._warn(f"{error}; keeping the labels {self._labels}")
            labels = dict(self._labels)
        # Labels reach a withdrawn version still, as long as they name it.
        withdrawn = withdrawn_versions(self.base_dir)
        serving = on_disk - withdrawn or on_disk
        wanted = {max(serving)} | (set(labels.values()) & on_disk)
        self._forget_failures(on_disk)
        for version in sorted(wanted):
            self._try_load(version, paths[version])
        for version in sorted(serving - wanted, reverse=True):
            if self._available() - withdrawn:
                break
            self._try_load(
                version, paths[version]
            )  # a restart must survive a broken newest version, too
        available = self._available()
        for label, version in labels.items():
            if version not in available:
                self._warn(f"label {label}: version {version} is not available")
        with self._lock:
            # A label moves once its new version runs; till then it names the old one.
            moved = {
                key: v if v in available else self._labels.get(key) for key, v in labels.items()
            }
            self._labels = {
                label: v for label, v in moved.items() if v in available and v is not None
            }
            named = set(self._labels.values())
            self._withdrawn = withdrawn
        if max(serving) not in available and available:
            wanted.add(max(available - withdrawn or available))
        self._retire(available - wanted - named)

    @contextmanager
    def use(self, version: int | None = None, label: str | None = None) -> Iterator[Lease]:
        """Lends the wanted version to a request, by default the newest of those in service.

        Raises: `StatusError` NOT_FOUND for a version that is not available, INVALID_ARGUMENT for
          an unknown label.
        """
        with self._lock:
            if label is not None:
                if label not in self._labels:
                    raise invalid(f"Unrecognized servable version label: {label}")
                version = self._labels[label]
            loaded = {v for v, entry in self._entries.items() if entry.state == "AVAILABLE"}
            newest = max(loaded - self._withdrawn or loaded, default=None)
            chosen = newest if version is None else version
            entry = self._entries[chosen] if chosen in loaded and chosen is not None else None
            if entry is None or entry.servable is None:
                raise servable_not_found(self.name, version)
            entry.leases += 1
            lease = Lease(entry.version, entry.servable)
        try:
            yield lease
        finally:
            with self._lock:
                entry.leases -= 1
            self._close_if_unused(entry)

    def status(self, version: int | None = None) -> list[dict[str, Any]]:
        """The state of each version ever wanted, or of one, newest first, as TF Serving has it."""
        with self._lock:
            entries = sorted(self._entries.values(), key=lambda entry: -entry.version)
            if version is not None:
                entries = [entry for entry in entries if entry.version == version]
                if not entries:
                    text = f"Could not find version {version} of model {self.name}"
                    raise StatusError("NOT_FOUND", text)
            return [_status_json(entry) for entry in entries]

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception:  # whatever it is, what is loaded must go on serving
                LOG.exception("looking for versions in %s failed", self.base_dir)

    def _available(self) -> set[int]:
        with self._lock:
            return {v for v, entry in self._entries.items() if entry.state == "AVAILABLE"}

    def _forget_failures(self, on_disk: set[int]) -> None:
        """A broken version that was removed may come back whole under the same number."""
        with self._lock:
            for version, entry in list(self._entries.items()):
                if entry.error and version not in on_disk:
                    del self._entries[version]

    def _try_load(self, version: int, path: str) -> None:
        with self._lock:
            entry = self._entries.setdefault(version, _Entry(version))
            failed = entry.state == "END" and entry.error is not None
            if failed or entry.state in ("AVAILABLE", "UNLOADING"):
                return
            if time.monotonic() < entry.next_attempt:
                return
            entry.state = "LOADING"
        try:
            servable = self._load(path)
        except Exception as error:  # a model can fail in any way; the old version must serve on
            with self._lock:
                entry.attempts += 1
                entry.error = StatusError("UNKNOWN", f"{type(error).__name__}: {error}")
                entry.next_attempt = time.monotonic() + self._retry_seconds
                if entry.attempts >= self._max_load_attempts:
                    entry.state = "END"
            LOG.warning("loading %s failed (attempt %d): %s", path, entry.attempts, error)
            return
        with self._lock:
            entry.servable, entry.state = servable, "AVAILABLE"
            entry.error, entry.attempts, entry.next_attempt = None, 0, 0.0
        LOG.info("serving version %d of %s", version, self.name)

    def _retire(self, versions: set[int]) -> None:
        for version in versions:
            entry = self._entries[version]
            with self._lock:
                if entry.state != "AVAILABLE":
                    continue
                entry.state = "UNLOADING"
            self._close_if_unused(entry)

    def _close_if_unused(self, entry: _Entry) -> None:
        with self._lock:
            if entry.state != "UNLOADING" or entry.leases or entry.servable is None:
                return
            servable, entry.servable = entry.servable, None
            entry.state = "END"
        servable.close()
        LOG.info("unloaded version %d of %s", entry.version, self.name)

    def _warn(self, message: str) -> None:
        if message != self._last_warning:  # not again at each look
            LOG.warning("%s", message)
            self._last_warning = message


def _status_json(entry: _Entry) -> dict[str, Any]:
    code, message = (entry.error.code, entry.error.message) if entry.error else ("OK", "")
    return {
        "version": str(entry.version),
        "state": entry.state,
        "status": {"error_code": code, "error_message": message},
    }
