"""Requests to a server, sent again where it had no place for them."""

from __future__ import annotations

import copy
import itertools
import random
from time import monotonic, sleep
from typing import Any

from preprocessing.base.errors import LongtailError, LongtailFailure
from preprocessing.base.optional import require

httpx = require("httpx", "serving")

_FIRST_PAUSE = 0.2
"""Seconds, doubled with each attempt."""
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
"""Refused, reset, or closed by the server, as one that is kept open may be between two requests."""
_LEAST = 1e-3
"""Seconds of an attempt: 0 would not wait, less is an error."""


class ServingError(LongtailFailure):
    """The server refused a request or did not answer.

    Attributes:
      status: the HTTP status, 0 for none.
      message: the server's, or why there is none.
      retry_after: seconds after which the same request may be taken; None where it would not.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Transport:
    """Keeps connections to one server open; may be shared by threads.

    Only requests that change nothing may be sent by it, since they may be sent again.

    Args:
      base_url: such as `http://127.0.0.1:8501`.
      timeout: seconds for one request, all its attempts and the pauses between them.
      retries: further attempts where the server answers 503, or a connection does not come about
        or breaks before the answer.

    Raises: `LongtailError` for a negative number of retries or a timeout that is not above 0.
    """

    def __init__(self, base_url: str, timeout: float, retries: int) -> None:
        if not timeout > 0 or retries < 0:
            raise LongtailError(
                "expected a timeout above 0 s and no negative number of retries, received "
                f"{timeout:g} s and {retries}"
            )
        self._timeout, self._retries = timeout, retries
        self._http = httpx.Client(base_url=base_url)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def without_retries(self) -> Transport:
        """The same connections, for who asks again by himself."""
        twin = copy.copy(self)
        twin._retries = 0
        return twin

    def call(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON object of the answer; raises `ServingError`, that of the last attempt."""
        deadline = monotonic() + self._timeout
        for attempt in itertools.count():
            try:
                return self._send(method, path, body, max(deadline - monotonic(), _LEAST))
            except ServingError as error:
                if error.retry_after is None or attempt >= self._retries:
                    raise
                # Some chance in it: clients that were refused together should not come back together.
                pause = error.retry_after + random.uniform(0.5, 1.0) * _FIRST_PAUSE * 2**attempt
                if monotonic() + pause >= deadline:
                    raise
            sleep(pause)

    def _send(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        headers = {"content-type": "application/json"} if body is not None else None
        try:
            response = self._http.request(
                method, path, content=body, headers=headers, timeout=seconds
            )
        except httpx.HTTPError as error:
            url = self._http.base_url
            text = f"no answer from {url}: {error or type(error).__name__}; is the server running?"
            raise ServingError(0, text, 0.0 if isinstance(error, _BROKEN) else None) from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code != 200 or not isinstance(answer, dict):
            message = answer.get("error") if isinstance(answer, dict) else None
            raise ServingError(
                response.status_code, str(message or response.text[:200]), _retry_after(response)
            )
        return answer


def _retry_after(response: Any) -> float | None:
    """Seconds; None but for 503. TF Serving says 503 without a time."""
    if response.status_code != 503:
        return None
    said = response.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else 0.0
