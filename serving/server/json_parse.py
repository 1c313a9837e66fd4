"""JSON as TF Serving reads it, through the same parser: RapidJSON 1.1."""

from __future__ import annotations

import json
import re
from typing import Any

import rapidjson

from serving.server.status import StatusError, invalid

_BOM = b"\xef\xbb\xbf"
_WHERE = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)


def parse_json(body: bytes) -> Any:
    """Reads a JSON document; of a key given twice the first value counts, as in TF Serving.

    Its numbers are integers of 64 bits or doubles, of which RapidJSON may miss the last bit, and
    NaN and Infinity are among them. Bytes that are not UTF-8 survive as surrogate escapes. The work
    is done in C; what is left to Python is a fraction of a microsecond for each object.

    Raises `StatusError` (INVALID_ARGUMENT) with RapidJSON's message and the byte offset.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    start = len(_BOM) if body.startswith(_BOM) else 0
    try:
        return _DECODER(body[start:] if start else body)
    except rapidjson.JSONDecodeError as error:
        raise _refused(error, start) from None
    except RecursionError:
        raise invalid("JSON Parse error: The document is nested too deeply.") from None
    except UnicodeDecodeError:
        return _of_any_bytes(body, start)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


class _Decoder(rapidjson.Decoder):
    start_object = list  # members are collected as pairs, so that none is lost
    end_object = staticmethod(_first_wins)


_DECODER = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def _refused(error: rapidjson.JSONDecodeError, start: int) -> StatusError:
    found = _WHERE.fullmatch(str(error))
    text = f"{found[2]} at offset: {int(found[1]) + start}" if found else str(error)
    return invalid(f"JSON Parse error: {text}")


def _of_any_bytes(body: bytes, start: int) -> Any:
    """A document with bytes that are not UTF-8: checked without them, then read with them."""
    body = body[start:].partition(b"\0")[0]  # where RapidJSON stops
    text = body.decode("utf-8", "surrogateescape")
    try:
        _DECODER(body.decode("utf-8", "replace"))
        return json.loads(text, object_pairs_hook=_first_wins, parse_int=_number)
    except rapidjson.JSONDecodeError as error:
        raise _refused(error, start) from None
    except (RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from None


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= 20 else float(digits)
