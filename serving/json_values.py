"""Single JSON values: what TF Serving takes for each dtype, and how its errors name them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from serving.status import StatusError, invalid
from serving.tensor_json import decimal_text

# Takes one JSON value that is no list; raises StatusError where it does not fit the dtype.
Converter = Callable[[Any], Any]

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

    low, high = _INTEGER_RANGES.get(dtype, (0, 0))
    if dtype in _INTEGER_RANGES:
        return integer
    by_dtype: dict[tf.DType, Converter] = {
        tf.string: string,
        tf.bool: boolean,
        tf.float32: decimal,
        tf.float64: decimal,
    }
    return by_dtype.get(dtype, unsupported)


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
    text = "".join(value["b64"].split()).rstrip("=")  # padding is optional there
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def debug_text(value: Any) -> str:
    """The value in RapidJSON's pretty layout, cut at about 256 characters.

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
    return "".join(parts)


def _json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"
