"""How much a server takes on at once: what is more is refused, and told when to come again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from preprocessing.base.errors import LongtailError
from serving.server.status import StatusError

RETRY_AFTER = "1"
"""Seconds, in answers with 503: a queue that was full moves on within moments."""


def _limit(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one process of the embedded server takes on."""

    threads: int = _limit(4 * (os.cpu_count() or 1), "predictions that run at once")
    queue: int = _limit(64, "predictions that wait; one more is answered with 503")
    max_body_bytes: int = _limit(8 * 2**20, "a larger body is answered with 413")
    read_seconds: float = _limit(20.0, "in which the head, then the body, of a request has to come")
    max_connections: int = _limit(512, "open at once; one more is answered with 503")

    def validate(self) -> None:
        """Raises `LongtailError` for a limit that lets nothing in."""
        for field in dataclasses.fields(self):
            least, given = int(field.name != "queue"), getattr(self, field.name)
            if not given >= least:  # NaN is refused, too
                raise LongtailError(
                    f"--{field.name.replace('_', '-')}: expected {least} or more, received {given:g}"
                )


class Load:
    """Counts what is under way; of one event loop, so that it needs no lock."""

    def __init__(self, limits: Limits) -> None:
        self._places = limits.threads + limits.queue
        self._bytes = limits.max_body_bytes * max(limits.threads, 2)
        self._under_way = self._read = 0

    def check(self) -> None:
        """Raises `StatusError` (503) where no prediction can be taken on."""
        if self._under_way >= self._places:
            raise StatusError(
                "UNAVAILABLE", f"{self._under_way} predictions run or wait; send it again later"
            )

    @contextlib.contextmanager
    def prediction(self) -> Iterator[None]:
        """A place among those that run and those that wait; raises as `check` does."""
        self.check()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @contextlib.contextmanager
    def body(self) -> Iterator[BodyBytes]:
        """Counts the bytes of a body from its arrival to its answer."""
        counted = BodyBytes(self)
        try:
            yield counted
        finally:
            self._read -= counted.size

    def grow(self, size: int) -> None:
        """Takes more bytes; raises `StatusError` (503) where bodies fill the memory meant for them."""
        if self._read + size > self._bytes:
            raise StatusError(
                "UNAVAILABLE", f"bodies of {self._read} bytes are being read; send it again later"
            )
        self._read += size


class BodyBytes:
    """The bytes of one body."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.size = 0

    def add(self, size: int) -> None:
        """Counts a piece; raises `StatusError` (503), see `Load.grow`."""
        self._load.grow(size)
        self.size += size
