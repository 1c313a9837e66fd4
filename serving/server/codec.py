"""The JSON body of a predict call to tensors, with the rules and error texts of TF Serving 2.16.

Row format: `{"instances": [...]}`, one entry per example, every input stacked along a new first
dimension. Columnar format: `{"inputs": ...}`, each input as it is, so that a scalar input is
possible. Source of the rules: tensorflow_serving/util/json_tensor.cc and the RESTful API guide.
`tensor_json` writes the answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from serving.server.json_parse import parse_json
from serving.server.json_values import Converter, converter, debug_text, is_base64, to_array
from serving.server.status import StatusError, invalid

Format = Literal["row", "columnar"]
InputTypes = Mapping[str, tf.DType]
Arrays = dict[str, np.ndarray[Any, Any]]
_BLOCK = 1024
"""Values or rows looked at together; where they are not alike, one after the other."""
_MAX_RANK = 32
"""Of an array (NumPy 1)."""


@dataclass(frozen=True)
class PredictRequest:
    """A decoded predict call: the tensors of a signature's inputs and the format of the answer."""

    signature_name: str
    format: Format
    inputs: Arrays


def decode_request(body: bytes, input_types: Callable[[str], InputTypes]) -> PredictRequest:
    """Decodes the body of a predict call.

    `input_types(signature_name)` gives the dtypes by input name ("" is the default signature) and
    may raise `StatusError` itself: TF Serving looks the model up between reading the JSON and
    looking at the tensors, so a bad JSON to an unknown model is a bad JSON.

    Raises: `StatusError` with TF Serving's code and text.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        text = "not formatted correctly. 'signature_name' key must be a string value."
        raise _format_error(document, text)
    types = input_types(signature_name)
    if not types:
        name = signature_name or "DEFAULT"
        raise invalid(f"Failed to get input map for signature: {name}")
    if "instances" in document:
        if "inputs" in document:
            text = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys"
            raise _format_error(document, text + " to exist ")
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _format_error(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise _format_error(document, "No values in 'instances' array")
        return PredictRequest(signature_name, "row", _decode_rows(instances, types))
    if "inputs" in document:
        columns = _decode_columns(document["inputs"], types)
        return PredictRequest(signature_name, "columnar", columns)
    raise invalid("Missing 'inputs' or 'instances' key")


class _Column:
    """The values of one input, collected over the rows; the first row fixes the shape."""

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype
        self._convert = converter(dtype)
        self._values: list[Any] = []
        self._shape: tuple[int, ...] | None = None
        self._size = 0

    def add(self, value: Any) -> None:
        shape = _dense_shape(value)
        before = len(self._values)
        _fill(value, 0, shape, self._convert, self._values)
        size = len(self._values) - before
        if self._shape is None:
            self._shape, self._size = shape, size
        elif size != self._size:
            raise invalid(f"Expecting tensor size: {self._size} but got: {size}")
        elif shape != self._shape:
            expected = _shape_text(self._shape)
            raise invalid(f"Expecting shape {expected} but got: {_shape_text(shape)}")

    def converted(self, values: list[Any]) -> list[Any] | None:
        """The flat values of several rows, None unless all are like those added before."""
        return None if self._shape is None else _all_at_once(values, self._shape, self._convert)

    def extend(self, converted: list[Any]) -> None:
        self._values += converted

    def array(self, *batch: int) -> np.ndarray[Any, Any]:
        return to_array(self._values, (*batch, *(self._shape or ())), self._dtype)


class _Rows:
    """The instances of a request, by column."""

    def __init__(self, first: Any, types: InputTypes) -> None:
        self._objects = _is_named_row(first)
        self._names = sorted(types)
        used = self._names if self._objects else self._names[:1]
        self.columns = {name: _Column(types[name]) for name in used}

    def add(self, row: int, instance: Any) -> None:
        objects, names = self._objects, self._names
        if objects != _is_named_row(instance):
            if objects:
                raise invalid(f"Expecting object but got list at item {row} of input list")
            raise invalid(f"Expecting value/list but got object at item {row} of input list")
        for name, value in instance.items() if objects else ((names[0], instance),):
            try:
                if name not in self.columns:
                    raise invalid(f"JSON object: does not have named input: {name}")
                self.columns[name].add(value)
            except StatusError as error:
                key = f" key: {name}" if objects else ""
                text = f"Failed to process element: {row}{key} of 'instances' list. Error: {error}"
                raise invalid(text) from None
        if objects and len(instance) != len(names):
            raise invalid(
                f"Failed to process element: {row} of 'instances' list. "
                f"JSON object: {debug_text(instance)} keys must be equal to: {','.join(names)}"
            )

    def extend(self, instances: list[Any]) -> bool:
        """Takes many rows at once; False, and nothing taken, where one of them is not as usual."""
        by_name = dict.fromkeys(self.columns, instances)
        if self._objects:
            if set(map(type, instances)) != {dict} or set(map(len, instances)) != {len(by_name)}:
                return False
            try:
                by_name = {name: [row[name] for row in instances] for name in self.columns}
            except KeyError:
                return False
        columns = [(self.columns[name], values) for name, values in by_name.items()]
        converted = [column.converted(values) for column, values in columns]
        if None in converted:
            return False
        for (column, _), values in zip(columns, converted, strict=True):
            column.extend(values or [])
        return True


def _decode_rows(instances: list[Any], types: InputTypes) -> Arrays:
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    rows = _Rows(instances[0], types)
    rows.add(0, instances[0])
    for start in range(1, len(instances), _BLOCK):
        block = instances[start : start + _BLOCK]
        if not rows.extend(block):
            for row, instance in enumerate(block, start):
                rows.add(row, instance)
    return {name: column.array(len(instances)) for name, column in rows.columns.items()}


def _decode_columns(inputs: Any, types: InputTypes) -> Arrays:
    if not _is_named_row(inputs):
        if len(types) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        inputs = dict.fromkeys(types, inputs)
    arrays: Arrays = {}
    for name in sorted(types):
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        column = _Column(types[name])
        column.add(inputs[name])
        arrays[name] = column.array()
    return arrays


def _is_named_row(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _dense_shape(value: Any) -> tuple[int, ...]:
    """The shape along the first elements; `_fill` finds what departs from it."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MAX_RANK:
        raise invalid(f"Expecting at most {_MAX_RANK} dimensions but got: {len(shape)}")
    return tuple(shape)


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _all_at_once(values: list[Any], shape: tuple[int, ...], convert: Converter) -> list[Any] | None:
    """What is in `values`, each of `shape`, flat and converted; None where something departs.

    Level by level, so that the interpreter does a few steps for many values.
    """
    for size in shape:
        if set(map(type, values)) - {list} or set(map(len, values)) - {size}:
            return None
        values = list(itertools.chain.from_iterable(values))
    return convert.many(values)


def _fill(
    value: Any, level: int, shape: tuple[int, ...], convert: Converter, out: list[Any]
) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid(
                f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {rank}"
            )
        out.append(convert.one(value))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for start in range(0, len(value), _BLOCK):
        block = value[start : start + _BLOCK]
        converted = _all_at_once(block, shape[level + 1 :], convert)
        if converted is not None:
            out += converted
            continue
        for element in block:  # to find the first that departs
            _fill(element, level + 1, shape, convert, out)


def _format_error(value: Any, text: str) -> StatusError:
    return invalid(f"JSON Value: {debug_text(value)} {text}")
