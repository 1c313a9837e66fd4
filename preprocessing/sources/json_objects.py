"""A line of JSON as the object that it is, or as what is wrong with it.

Of the libraries that read JSON, Python's own does it all in one pass. It takes a line by itself: Arrow gives up a
whole block at a broken line. It tells of a name that occurs twice, and keeps the digits of every number: orjson takes
the last of two values, and a float for an integer beyond 64 bits.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from preprocessing.sources import text_rows
from preprocessing.sources.csv_lines import TOO_LONG

TEXT, NUMBER, BOOLEAN, LIST = "text", "a number", "a boolean", "a list"
KINDS = {str: TEXT, int: NUMBER, Decimal: NUMBER, bool: BOOLEAN, list: LIST}
"""What values are called."""
NO_JSON = "no JSON"
_LARGEST = 400
"""Digits of a number that is written out; a float of 64 bits has fewer."""


class Malformed(ValueError):
    """What is wrong with a line."""


def number(value: int | Decimal) -> str:
    """By its digits; a whole number without a fraction."""
    if isinstance(value, int):
        return str(value)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -_LARGEST <= exponent <= _LARGEST:
        return str(value)
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"the name '{twice[:100]}' occurs twice")
    return found


def _constant(name: str) -> None:
    if name != "NaN":
        raise Malformed(f"{name}, which is no value of JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_constant
).raw_decode


def parsed(line: bytes, encoding: str) -> dict[str, Any]:
    """The object of a line.

    Raises:
      Malformed: it is none.
    """
    if len(line) > text_rows.LONGEST_LINE:
        raise Malformed(TOO_LONG.format(text_rows.LONGEST_LINE))
    try:
        text = line.decode()
        found, end = _decode(text)
    except Malformed:
        raise
    except UnicodeDecodeError as error:
        raise Malformed(f"not {encoding}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"{NO_JSON}: {error.msg}, character {error.pos + 1}") from error
    except InvalidOperation as error:
        raise Malformed("a number of an exponent that nothing can hold") from error
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise Malformed(f"{NO_JSON} that can be read: {error}") from error
    if end != len(text):
        raise Malformed(f"{NO_JSON}: more after its end, character {end + 1}")
    if not isinstance(found, dict):
        raise Malformed(f"{KINDS.get(type(found), 'null')}, expected an object")
    return found
