"""Single JSON values: what TF Serving takes for each dtype, and how its errors name them."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.server.status import StatusError, invalid
from serving.server.tensor_json import decimal_text

_Many = Callable[[list[Any]], "list[Any] | None"]


class Converter(NamedTuple):
    """The conversion of JSON values that are no lists, for one dtype.

    Attributes:
      one: takes a value; raises `StatusError` where it does not fit the dtype.
      many: takes many; None where one of them needs a look of its own.
    """

    one: Callable[[Any], Any]
    many: _Many


_INT32 = (-(2**31), 2**31 - 1)
_INTEGER_RANGES: dict[tf.DType, tuple[int, int]] = {
    # The small types are read as int32 and then cast, wrapping around, as TF Serving does.
    tf.int8: _INT32,
    tf.int16: _INT32,
    tf.uint8: _INT32,
    tf.int32: _INT32,
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
_WIDE: dict[tf.DType, Any] = {tf.int8: np.int32, tf.int16: np.int32, tf.uint8: np.int32}
_DEBUG_CHARACTERS = 256
_BASE64 = re.compile("[A-Za-z0-9+/]*")


def converter(dtype: tf.DType) -> Converter:
    """The check and conversion of one value of this dtype; chosen once per input, not per value."""
    type_name = {"float32": "float", "float64": "double", "float16": "half"}.get(
        dtype.name, str(dtype.name)
    )

    def refuse(value: Any) -> StatusError:
        return invalid(
            f"JSON Value: {debug_text(value)} Type: {_json_type(value)} "
            f"is not of expected type: {type_name}"
        )

    def string(value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return _decode_base64(value)
        raise refuse(value)

    def boolean(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise refuse(value)

    def decimal(value: Any) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        raise refuse(value)

    def integer(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise refuse(value)

    def unsupported(value: Any) -> Any:
        if isinstance(value, dict):
            raise refuse(value)
        text = f"Conversion of JSON Value: {debug_text(value)} to type: {type_name}"
        raise StatusError("UNIMPLEMENTED", text)

    def strings(values: list[Any]) -> list[Any] | None:
        kinds = set(map(type, values))
        if kinds - {str}:
            return None if kinds - {str, dict} else [string(value) for value in values]
        return [value.encode("utf-8", "surrogateescape") for value in values]

    def integers(values: list[Any]) -> list[Any] | None:
        fits = not set(map(type, values)) - {int}
        return (
            values if fits and (not values or low <= min(values) <= max(values) <= high) else None
        )

    def of_types(*types: type) -> _Many:
        return lambda values: None if set(map(type, values)) - {*types} else values

    low, high = _INTEGER_RANGES.get(dtype, (0, 0))
    if dtype in _INTEGER_RANGES:
        return Converter(integer, integers)
    decimals = Converter(decimal, of_types(int, float))
    by_dtype = {
        tf.string: Converter(string, strings),
        tf.bool: Converter(boolean, of_types(bool)),
        tf.float32: decimals,
        tf.float64: decimals,
    }
    return by_dtype.get(dtype, Converter(unsupported, of_types()))


def to_array(values: list[Any], shape: tuple[int, ...], dtype: tf.DType) -> np.ndarray[Any, Any]:
    """The converted values, in C order, as an array of `shape`; strings as an object array."""
    if dtype == tf.string:
        strings = np.empty(len(values), dtype=object)
        strings[:] = values
        return strings.reshape(shape)
    target = dtype.as_numpy_dtype
    with np.errstate(over="ignore"):  # 1e300 becomes infinity in a float, as it does there
        wide: np.ndarray[Any, Any] = np.array(values, _WIDE.get(dtype, target))
        return wide.astype(target, copy=False).reshape(shape)


def is_base64(value: Any) -> bool:
    """Whether this is `{"b64": "..."}` and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not is_base64(value):
        raise invalid(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
    text = value["b64"]
    if not _BASE64.fullmatch(text):
        text = "".join(text.split())
    text = text.rstrip("=")  # padding is optional there
    if not _BASE64.fullmatch(text) or len(text) % 4 == 1:
        raise invalid("Unable to base64 decode")
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))


def debug_text(value: Any) -> str:
    """The value in RapidJSON's pretty layout, cut at about 256 characters, and at 512 for sure.

    TF Serving 2.16 repeats the whole value, later ones cut it: a bad request must not get its
    megabytes back.
    """
    if isinstance(value, float):
        return decimal_text(value)
    parts: list[str] = []
    size = 0
    for part in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        parts.append(part)
        size += len(part)
        if size >= _DEBUG_CHARACTERS:
            break
    return "".join(parts)[: 2 * _DEBUG_CHARACTERS]


def _json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"
