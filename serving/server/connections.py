"""Connections that may not idle in the middle of a request, nor be too many."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.server.limits import RETRY_AFTER, Limits

_MAX_HEAD_BYTES = 2**16
_TEXT = json.dumps({"error": "UNAVAILABLE: too many connections; send it again later"}, indent=4)
_FULL = (
    f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: {RETRY_AFTER}\r\n"
    f"content-length: {len(_TEXT)}\r\nconnection: close\r\n\r\n{_TEXT}"
).encode()


class BoundedConnection(HttpToolsProtocol):  # type: ignore[misc, unused-ignore]
    """uvicorn's connection, which ends where the head of a request does not come in time or is too long.

    uvicorn itself waits for ever: a client that sends a byte now and then would hold a connection, and a
    thousand of them the server. Its parser is in C (httptools), so that a body in tiny chunks costs
    little.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses a connection too many."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        if len(self.connections) > self.limits.max_connections:
            transport.write(_FULL)
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Lets the clock run while a head, or a body that was answered already, is coming in."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_bytes = 0
            self._unwatch()
        elif self._answers_nothing():
            if self.cycle is None or self.scope is not self.cycle.scope:  # else it is a body
                self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.close()
            elif self._timer is None:
                self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._unwatch()
        super().connection_lost(exc)

    def _answers_nothing(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.limits.read_seconds, self._late)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._answers_nothing():
            self.transport.close()


def bounded(limits: Limits) -> type[BoundedConnection]:
    """The class of connections with these limits, as uvicorn takes it."""
    return type("BoundedConnection", (BoundedConnection,), {"limits": limits})
