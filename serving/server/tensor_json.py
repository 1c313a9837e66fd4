"""Tensors to the JSON text of a predict answer, number for number as TF Serving writes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from serving.server.status import invalid

Tensors = Mapping[str, "np.ndarray[Any, Any]"]
_BINARY_SUFFIX = "_bytes"


def encode_response(outputs: Tensors, format: Literal["row", "columnar"]) -> bytes:
    """The body `{"predictions": ...}` (row) or `{"outputs": ...}` (columnar).

    With a single output its values stand bare; otherwise objects keyed by output name. String
    outputs whose name ends in `_bytes` are written as `{"b64": ...}`.

    Args:
      outputs: arrays by output name; in row format all `[batch, ...]` of one batch size.
      format: that of the request.

    Raises:
      StatusError: INVALID_ARGUMENT, where a row answer has no common batch size or a dtype has no
        JSON form.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    text = _rows(outputs) if format == "row" else _columns(outputs)
    return text.encode("utf-8", "surrogateescape")


def _rows(outputs: Tensors) -> str:
    batch = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and len(array) != batch:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    named = {name: _nested_rows(_flat(name, array), array.shape) for name, array in outputs.items()}
    if len(named) == 1:
        rows = next(iter(named.values()))
    else:
        keys = [json.dumps(name) for name in named]
        rows = [_object(keys, values) for values in zip(*named.values(), strict=True)]
    return '{"predictions": [' + ", ".join(rows) + "]}"


def _columns(outputs: Tensors) -> str:
    named = {name: _nested(_flat(name, array), array.shape) for name, array in outputs.items()}
    if len(named) == 1:
        text = next(iter(named.values()))
    else:
        text = _object([json.dumps(name) for name in named], named.values())
    return '{"outputs": ' + text + "}"


def _object(keys: Iterable[str], values: Iterable[str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True)) + "}"


def _nested_rows(flat: list[str], shape: tuple[int, ...]) -> list[str]:
    """The JSON text of each `array[i]`, from the texts of its values in C order."""
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _nested(flat: list[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return "[" + ", ".join(flat) + "]"
    return "[" + ", ".join(_nested_rows(flat, shape)) + "]"


def _flat(name: str, array: np.ndarray[Any, Any]) -> list[str]:
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize >= 4:
        return decimal_texts(array.ravel())
    if kind in "iu":
        return list(map(str, array.ravel().tolist()))
    if kind == "b":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if kind in "OSU":
        values = [v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist()]
        if name.endswith(_BINARY_SUFFIX):
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in values]
        return [
            json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)
            for value in values
        ]
    type_name = {"float16": "half"}.get(array.dtype.name, array.dtype.name)
    raise invalid(f"Failed to write JSON value for tensor type: {type_name}")


def decimal_texts(values: np.ndarray[Any, Any]) -> list[str]:
    """Each of `[n]` floats or doubles as TF Serving writes it, `0.2` and not `0.20000000298`.

    Six digits where they read back as the same number, otherwise all that its type can hold;
    `.0` after whole numbers, and the bare words `NaN`, `Infinity` and `-Infinity`.
    """
    if not len(values):
        return []
    digits = 9 if values.dtype.itemsize == 4 else 17
    numbers = values.tolist()
    short = ("%.6g," * len(numbers) % tuple(numbers)).split(",")[:-1]
    exact = np.array(list(map(float, short)), values.dtype) == values
    return [
        _finish(text if same else f"{number:.{digits}g}")
        for text, same, number in zip(short, exact.tolist(), numbers, strict=True)
    ]


def decimal_text(value: float) -> str:
    """One double as TF Serving writes it."""
    return decimal_texts(np.array([value], np.float64))[0]


def _finish(text: str) -> str:
    if "." in text or "e" in text:
        return text
    special = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return special.get(text) or text + ".0"
