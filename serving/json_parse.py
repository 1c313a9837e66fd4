"""JSON as TF Serving reads it: RapidJSON 1.1's grammar, error texts and byte offsets.

Python's parser does the work. What it refuses, and the few things that it takes and RapidJSON
does not, go through a second parser that knows RapidJSON's rules and either reads the value or says
where and why it stopped.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from serving.status import invalid

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_WHITESPACE = re.compile(rb"[ \n\r\t]*")
_STRING_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_DIGITS = re.compile(rb"[0-9]+")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_LITERALS: dict[bytes, tuple[bytes, Any]] = {
    b"n": (b"null", None),
    b"t": (b"true", True),
    b"f": (b"false", False),
}
_TOO_DEEP = "JSON Parse error: The document is nested too deeply."


def parse_json(body: bytes) -> Any:
    """Reads a JSON document; of a key given twice the first value counts, as in RapidJSON.

    Bytes that are not UTF-8 survive as surrogate escapes. Raises `StatusError` (INVALID_ARGUMENT)
    with RapidJSON's message and the byte offset.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        if not _SURROGATE_ESCAPE.search(body):  # Python lets lone surrogates pass
            text = body.decode("utf-8", "surrogateescape")
            return json.loads(text, object_pairs_hook=_first_wins, parse_float=_finite)
    except RecursionError:
        raise invalid(_TOO_DEEP) from None
    except ValueError:
        pass
    try:
        return _RapidJson(body).document()
    except RecursionError:
        raise invalid(_TOO_DEEP) from None


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


class _RapidJson:
    def __init__(self, body: bytes) -> None:
        self._start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
        # A NUL byte ends a RapidJSON stream, and ours too: `body[at:at+1]` is then b"".
        self._body = body.partition(b"\0")[0]
        self._at = self._start

    def document(self) -> Any:
        if not self._peek_token():
            self._fail("The document is empty.")
        value = self._value()
        if self._peek_token():
            self._fail("The document root must not be followed by other values.")
        return value

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        raise invalid(f"JSON Parse error: {message} at offset: {self._at if at is None else at}")

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _peek_token(self) -> bytes:
        self._match(_WHITESPACE)
        return self._peek()

    def _take(self, expected: bytes) -> bool:
        """Consumes `expected` byte by byte, so that a failure points at the first wrong byte."""
        for byte in expected:
            if self._peek() != bytes((byte,)):
                return False
            self._at += 1
        return True

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self._body, self._at)
        if found is None:
            return b""
        self._at = found.end()
        return found.group()

    def _value(self) -> Any:
        first = self._peek()
        if first == b"{":
            return self._object()
        if first == b"[":
            return self._array()
        if first == b'"':
            return self._string()
        if first in _LITERALS:
            word, value = _LITERALS[first]
            if not self._take(word):
                self._fail("Invalid value.")
            return value
        return self._number()

    def _object(self) -> dict[str, Any]:
        self._at += 1
        members: dict[str, Any] = {}
        if self._peek_token() == b"}":
            self._at += 1
            return members
        while True:
            if self._peek_token() != b'"':
                self._fail("Missing a name for object member.")
            name = self._string()
            if self._peek_token() != b":":
                self._fail("Missing a colon after a name of object member.")
            self._at += 1
            self._peek_token()
            members.setdefault(name, self._value())
            token = self._peek_token()
            if token not in (b",", b"}"):
                self._fail("Missing a comma or '}' after an object member.")
            self._at += 1
            if token == b"}":
                return members

    def _array(self) -> list[Any]:
        self._at += 1
        values: list[Any] = []
        if self._peek_token() == b"]":
            self._at += 1
            return values
        while True:
            self._peek_token()
            values.append(self._value())
            token = self._peek_token()
            if token not in (b",", b"]"):
                self._fail("Missing a comma or ']' after an array element.")
            self._at += 1
            if token == b"]":
                return values

    def _string(self) -> str:
        self._at += 1
        parts: list[bytes] = []
        while True:
            parts.append(self._match(_STRING_RUN))
            char = self._peek()
            if char == b'"':
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if char == b"\\":
                parts.append(self._escape())
            elif char:
                self._fail("Invalid escape character in string.")
            else:
                self._fail("Missing a closing quotation mark in string.")

    def _escape(self) -> bytes:
        at = self._at  # RapidJSON reports the backslash, whatever is wrong behind it
        self._at += 1
        char = self._peek()
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != b"u":
            self._fail("Invalid escape character in string.", at)
        code = self._hex4(at)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or not self._take(b"\\u"):
                self._fail("The surrogate pair in string is invalid.", at)
            low = self._hex4(at)
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", at)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode()

    def _hex4(self, at: int) -> int:
        digits = self._match(_HEX4)
        if not digits:
            self._fail("Incorrect hex digit after \\u escape in string.", at)
        return int(digits, 16)

    def _number(self) -> int | float:
        start = self._at
        minus = self._take(b"-")
        if self._peek() in (b"N", b"I"):
            return self._nan_or_infinity(minus)
        if not self._match(_INTEGER):
            self._fail("Invalid value.")
        integer = True
        if self._take(b"."):
            integer = False
            if not self._match(_DIGITS):
                self._fail("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            integer = False
            self._take(b"+") or self._take(b"-")
            if not self._match(_DIGITS):
                self._fail("Miss exponent in number.")
        text = self._body[start : self._at]
        if integer and len(text) <= 20:
            return int(text)
        value = float(text)
        if math.isinf(value):
            self._fail("Number too big to be stored in double.", start)
        return value

    def _nan_or_infinity(self, minus: bool) -> float:
        if self._take(b"N"):
            if self._take(b"aN"):
                return math.nan
        elif self._take(b"Inf") and (self._peek() != b"i" or self._take(b"inity")):
            return -math.inf if minus else math.inf
        self._fail("Invalid value.")
