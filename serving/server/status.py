"""The canonical error codes of TensorFlow and the HTTP status TF Serving gives each of them."""

from __future__ import annotations

# In the order of their numbers (tf.errors.OpError.error_code), each with its HTTP status.
HTTP_STATUS: dict[str, int] = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_NAMES = tuple(HTTP_STATUS)


class StatusError(Exception):
    """A failed request: a canonical code such as `INVALID_ARGUMENT` and the text of the answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status that TF Serving gives this code."""
        return HTTP_STATUS[self.code]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def invalid(message: str) -> StatusError:
    """An `INVALID_ARGUMENT` (HTTP 400) with this text."""
    return StatusError("INVALID_ARGUMENT", message)


def from_error_code(error_code: int, message: str) -> StatusError:
    """The status of a `tf.errors.OpError`, from its `error_code` and `message`."""
    known = 0 < error_code < len(_NAMES)
    return StatusError(_NAMES[error_code] if known else "UNKNOWN", message)
